/**
 * The data set: scenes of one to three things on plain, patterned and drawn backgrounds, with captions.
 *
 *   const scenes = await openScenes();
 *   const { images, captions } = scenes.batch(seed, heldOutScenes, 8); // [8, 3, 128, 128] in [-1, 1]
 *
 * A scene depends on its seed and its index alone. Those with an index below `heldOutScenes` are for evaluation: no
 * training draws them.
 */
import { HostTensor, random } from "@sdxs/tensor";
import { readEmojiPack, type EmojiPack } from "../../emoji-pack.js";
import { sceneSize, toImage } from "./canvas.js";
import { drawsOf } from "./draws.js";
import { composeScene, type Scene, type SceneWishes } from "./scene.js";
import { captionOf } from "./scene-captions.js";
import { decodeSprites, type Sprites } from "./sprites.js";
import { fileURLToPath } from "node:url";

/** Scenes [0, heldOutScenes) of each seed are kept for evaluation. */
export const heldOutScenes = 10_000;

export interface SceneSample {
  /** [3, 128, 128], red, green, blue, in [-1, 1]. */
  readonly image: Float32Array<ArrayBuffer>;
  readonly caption: string;
  readonly scene: Scene;
}

export interface SceneBatch {
  /** [count, 3, 128, 128] in [-1, 1]. */
  readonly images: HostTensor;
  readonly captions: readonly string[];
}

export const dataFolder = fileURLToPath(new URL("../data", import.meta.url));

/** The recipe's tokenizer: CLIP's format, learned from the captions' words by `npm run recipe:scenes -- tokenizer`. */
export const tokenizerFolder = fileURLToPath(new URL("../data/tokenizer", import.meta.url));

/** Reads and decodes the pack: two seconds. Throws as `readEmojiPack` and `decodeSprites`. */
export async function openScenes(pack?: EmojiPack): Promise<SceneSource> {
  return new SceneSource(await decodeSprites(pack ?? (await readEmojiPack(dataFolder, "emoji-128"))));
}

export class SceneSource {
  readonly #sprites: Sprites;

  constructor(sprites: Sprites) {
    this.#sprites = sprites;
  }

  /** The scene of an index. Wishes replace what they name; the rest is drawn as it would be. */
  sample(seed: number, index: number, wishes?: SceneWishes): SceneSample {
    const stream = random(seed, "scene", index);
    const { scene, canvas } = composeScene(this.#sprites, drawsOf(stream.at("picture")), wishes);
    return { image: toImage(canvas), caption: captionOf(scene, drawsOf(stream.at("caption"))), scene };
  }

  /** Scenes `first` to `first + count - 1`. */
  batch(seed: number, first: number, count: number): SceneBatch {
    const { images, captions } = this.captionedBatch(seed, first, count, 1);
    return { images, captions: captions.flat() };
  }

  /** The same scenes with several captions each, that of `sample` first. */
  captionedBatch(
    seed: number,
    first: number,
    count: number,
    captionsEach: number,
  ): { readonly images: HostTensor; readonly captions: readonly (readonly string[])[] } {
    const images = new Float32Array(count * 3 * sceneSize * sceneSize);
    const captions = Array.from({ length: count }, (_, position) => {
      const { image, caption, scene } = this.sample(seed, first + position);
      images.set(image, position * image.length);
      const others = Array.from({ length: captionsEach - 1 }, (_, other) =>
        captionOf(scene, drawsOf(random(seed, "scene", first + position, "other caption", other))),
      );
      return [caption, ...others];
    });
    return { images: new HostTensor([count, 3, sceneSize, sceneSize], images), captions };
  }
}
