import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { SdxsError, UnsupportedConfigError, sizeOf } from "@sdxs/tensor";
import { openCheckpoint, openSafetensorsFile, readJsonFile, type SafetensorsFile } from "@sdxs/tensor/node";
import { multiplyAdds, type PictureScale } from "./multiply-adds.js";

/** What weights there are in a file, or several. */
export interface StoredWeights {
  readonly parameters: number;
  readonly bytes: number;
  /** Parameters by the element type that they are stored in. */
  readonly dtypes: Readonly<Record<string, number>>;
}

export interface InspectedComponent extends Partial<StoredWeights> {
  /** Its folder's name in a pipeline. */
  readonly name: string;
  readonly className: string;
  /** For one picture or prompt and one evaluation; undefined where they are not known. */
  readonly multiplyAdds?: number | undefined;
  readonly config: Json;
}

type Json = Readonly<Record<string, unknown>>;

/** Where a component's configuration stands: models, schedulers, tokenizers, image processors. */
const configFiles = ["config.json", "scheduler_config.json", "tokenizer_config.json", "preprocessor_config.json"];

/** CLIP's, for a U-Net by itself. */
const CLIP_TOKENS = 77;

/** Reads what a safetensors file says of itself; no weights are read. */
export async function inspectFile(path: string): Promise<StoredWeights> {
  return storedWeights(await openSafetensorsFile(path));
}

/**
 * Reads what the folder of a pipeline, or of one model, says of itself: configurations and the headers of weights, no
 * weights. Classes that sdxs does not know are listed as well.
 *
 * @throws SdxsError of code MISSING_FILE, MALFORMED_FILE, or UNSUPPORTED_OPERATION for pickled weights.
 */
export async function inspectFolder(folder: string): Promise<readonly InspectedComponent[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((cause: unknown): never => {
    const isFile = (cause as NodeJS.ErrnoException).code === "ENOTDIR";
    throw isFile
      ? new SdxsError(
          "UNSUPPORTED_OPERATION",
          `${folder} is a file, of which only those of safetensors are inspected.`,
          {
            cause,
          },
        )
      : new SdxsError("MISSING_FILE", `There is no folder at ${folder}. Check the path.`, { cause });
  });
  const isModel = entries.some(({ name }) => name === "config.json");
  const names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  const found = isModel
    ? [await inspectComponent(folder, "")]
    : await Promise.all(names.sort().map((name) => inspectComponent(join(folder, name), name)));
  const components = found.filter((component) => component !== undefined);
  if (components.length === 0) {
    throw new SdxsError(
      "MISSING_FILE",
      `${folder} holds neither a model nor a pipeline: no config.json in it or below.`,
    );
  }
  const scale = scaleOf(components);
  return components.map((component) => ({ ...component, multiplyAdds: knownMultiplyAdds(component, scale) }));
}

function knownMultiplyAdds(component: InspectedComponent, scale: PictureScale): number | undefined {
  try {
    return multiplyAdds(component, scale);
  } catch (error) {
    // Models that sdxs cannot run are listed all the same.
    if (error instanceof UnsupportedConfigError) return undefined;
    throw error;
  }
}

/** undefined: a folder that is no component. */
async function inspectComponent(folder: string, name: string): Promise<InspectedComponent | undefined> {
  const present = await readdir(folder);
  const file = configFiles.find((known) => present.includes(known));
  if (file === undefined) return undefined;
  const config = { ...((await readJsonFile(join(folder, file))) as object) } as Json;
  const { _class_name: own, architectures, tokenizer_class: tokenizer } = config;
  const className: unknown = own ?? (Array.isArray(architectures) ? architectures[0] : undefined) ?? tokenizer;
  const stem = own === undefined ? "model" : "diffusion_pytorch_model"; // transformers and diffusers
  const weights = file === "config.json" && storedWeights(await openCheckpoint(join(folder, stem)));
  return { name, className: typeof className === "string" ? className : "?", ...(await weights), config };
}

async function storedWeights(file: SafetensorsFile): Promise<StoredWeights> {
  const infos = file.names.map((name) => file.info(name));
  await file.close();
  const dtypes: Record<string, number> = {};
  for (const { dtype, shape } of infos) dtypes[dtype] = (dtypes[dtype] ?? 0) + sizeOf(shape);
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  return { parameters: sum(Object.values(dtypes)), bytes: sum(infos.map(({ length }) => length)), dtypes };
}

/** The size of pictures that the U-Net was trained on, and the length of the text encoder's prompts. */
function scaleOf(components: readonly InspectedComponent[]): PictureScale {
  const field = (className: string, name: string): unknown =>
    components.find((component) => component.className.startsWith(className))?.config[name];
  const sizes = [field("UNet2DConditionModel", "sample_size")].flat();
  const [height, width] = [sizes[0], sizes.at(-1)];
  const tokens = field("CLIPTextModel", "max_position_embeddings");
  return {
    tokens: typeof tokens === "number" ? tokens : CLIP_TOKENS,
    ...(typeof height === "number" && typeof width === "number" && { latents: { height, width } }),
  };
}
