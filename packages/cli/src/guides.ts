import { canny } from "@sdxs/controlnet";
import {
  fittingSize,
  resizePicture,
  trainedSize,
  wholeLatents,
  type GenerateOptions,
  type PictureSize,
} from "@sdxs/runtime";
import { readPicture } from "@sdxs/runtime/node";
import { HostTensor, InvalidArgumentError, SdxsError } from "@sdxs/tensor";
import { finite, oneOf, weighed } from "./command-line.js";
import { sizeName } from "./image-request.js";
import type { OpenPipeline } from "./open-pipeline.js";
import type { Terminal } from "./terminal.js";

/** Options for pictures that guide. */
export const guideOptions = {
  image: { type: "string" },
  strength: { type: "string" },
  controlnet: { type: "string", multiple: true },
  control: { type: "string", multiple: true },
  canny: { type: "boolean", default: false },
  "guess-mode": { type: "boolean", default: false },
  resize: { type: "string" },
} as const;

export const guideUsage = `  --image FILE          begin with this picture in place of noise alone: JPEG, PNG, WebP, ..., as a person sees it
  --strength X          how much of it is drawn anew, above 0 and at most 1; default 0.8
  --control FILE[=WEIGHT]  what a ControlNet follows, one for each in their order; default weight 1
  --controlnet MODEL    a ControlNet, named as MODEL is; may be repeated; default: those of the pipeline
  --canny               follow the edges of these pictures, as canny ControlNets do
  --guess-mode          let ControlNets lead more than the prompt, as diffusers' guess_mode
  --resize MODE         of these pictures, to what is drawn: fit (default without --size) draws in the first one's
                        proportions, with the model's number of pixels; stretch (default with --size, as diffusers) and
                        crop draw in --size, or the model's own; none draws in the first one's size`;

const resizeModes = ["fit", "stretch", "crop", "none"] as const;

interface GuideValues {
  readonly image?: string | undefined;
  readonly strength?: string | undefined;
  readonly controlnet?: readonly string[] | undefined;
  readonly control?: readonly string[] | undefined;
  readonly canny: boolean;
  readonly resize?: string | undefined;
  readonly size?: string | undefined;
}

/** A picture's file, read. */
interface GuidingPicture {
  /** The option and the file, for messages. */
  readonly name: string;
  readonly picture: HostTensor;
}

export interface Guides {
  readonly image?: GuidingPicture;
  readonly strength?: number;
  readonly controls: readonly (GuidingPicture & { readonly scale: number })[];
  readonly asEdges: boolean;
  readonly resize: (typeof resizeModes)[number];
}

/**
 * What the options say of pictures that guide, and the pictures in their own size.
 *
 * @throws InvalidArgumentError for options without effect, SdxsError MISSING_FILE, MalformedFileError: before any model is loaded
 */
export async function readGuides({
  image,
  strength: strengthText,
  controlnet = [],
  control = [],
  canny: asEdges,
  resize: mode,
  size,
}: GuideValues): Promise<Guides> {
  if (asEdges && control.length === 0) throw new InvalidArgumentError("--canny needs a picture: give --control, too.");
  if (controlnet.length > 0 && control.length !== controlnet.length) {
    throw new InvalidArgumentError(
      `Each --controlnet follows one --control, got ${controlnet.length} and ${control.length}.`,
    );
  }
  if (strengthText !== undefined && image === undefined) {
    throw new InvalidArgumentError("--strength is of a picture to begin with: give --image, too.");
  }
  const strength = strengthText === undefined ? undefined : finite("--strength", strengthText);
  if (strength !== undefined && !(strength > 0 && strength <= 1)) {
    throw new InvalidArgumentError(`--strength must be above 0 and at most 1, got ${strength}.`);
  }
  if (mode !== undefined && image === undefined && control.length === 0) {
    throw new InvalidArgumentError("--resize is of pictures that guide: give --image or --control, too.");
  }
  const resize = mode === undefined ? (size === undefined ? "fit" : "stretch") : oneOf("--resize", mode, resizeModes);
  if (size !== undefined && (resize === "fit" || resize === "none")) {
    throw new InvalidArgumentError(
      `--resize ${resize} takes the size from the picture: leave --size out, or choose stretch or crop.`,
    );
  }
  const controls = control.map((option) => weighed("--control", option));
  return {
    ...(image !== undefined && { image: await read("--image", image) }),
    ...(strength !== undefined && { strength }),
    controls: await Promise.all(
      controls.map(async ({ path, weight }) => ({ ...(await read("--control", path)), scale: weight })),
    ),
    asEdges,
    resize,
  };
}

async function read(option: string, path: string): Promise<GuidingPicture> {
  const name = `${option} ${path}`;
  const picture = await readPicture(path).catch((error: unknown) => {
    if (!(error instanceof SdxsError)) throw error;
    throw new SdxsError(error.code, `${name}: ${error.message}`, { cause: error });
  });
  return { name, picture };
}

/**
 * The pictures in the size in which the model is to draw, as the pipeline takes them. Edges are found in that size, where they
 * are one pixel wide.
 *
 * @throws InvalidArgumentError where neither the options nor the model tell a size
 */
export function fitGuides(
  { image, strength, controls, asEdges, resize }: Guides,
  asked: PictureSize | undefined,
  components: OpenPipeline["components"],
  { note }: Terminal,
): Pick<GenerateOptions, "image" | "strength" | "controls"> & Partial<PictureSize> {
  const [first] = [...(image ? [image] : []), ...controls];
  if (first === undefined) return { ...asked };
  const size = asked ?? drawnSize(resize, sizeOf(first), components);
  const mode = resize === "crop" ? "crop" : "stretch";
  const fit = ({ name, picture }: GuidingPicture): HostTensor => {
    const own = sizeOf({ picture });
    if (sizeName(own) !== sizeName(size)) note(`sdxs: ${name}: ${sizeName(own)}, resized to ${sizeName(size)}`);
    return resizePicture(picture, size, { mode });
  };
  return {
    ...size,
    ...(image && { image: fit(image) }),
    ...(strength !== undefined && { strength }),
    ...(controls.length > 0 && {
      controls: controls.map(({ scale, ...control }) => {
        const picture = fit(control);
        return { image: asEdges ? canny(picture) : fromZeroToOne(picture), scale };
      }),
    }),
  };
}

function drawnSize(resize: Guides["resize"], own: PictureSize, components: OpenPipeline["components"]): PictureSize {
  if (resize === "fit") return fittingSize(components, own);
  if (resize === "none") return wholeLatents(components, own);
  const trained = trainedSize(components);
  if (trained === undefined) {
    throw new InvalidArgumentError(`--resize ${resize} needs --size: the model's configuration tells none.`);
  }
  return trained;
}

const sizeOf = ({ picture: { shape } }: Pick<GuidingPicture, "picture">): PictureSize => ({
  width: shape[3]!,
  height: shape[2]!,
});

const fromZeroToOne = ({ shape, data }: HostTensor): HostTensor =>
  new HostTensor(
    shape,
    Float32Array.from(data, (value) => (value + 1) / 2),
  );
