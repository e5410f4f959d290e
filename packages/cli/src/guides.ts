import { readFile } from "node:fs/promises";
import { canny } from "@sdxs/controlnet";
import { fromPng, type GenerateOptions } from "@sdxs/runtime";
import { HostTensor, InvalidArgumentError, SdxsError } from "@sdxs/tensor";
import { finite, given } from "./command-line.js";

/** Options for pictures that guide. */
export const guideOptions = {
  image: { type: "string" },
  strength: { type: "string" },
  controlnet: { type: "string", multiple: true },
  control: { type: "string", multiple: true },
  canny: { type: "boolean", default: false },
} as const;

export const guideUsage = `  --image FILE.png      begin with this picture in place of noise alone
  --strength X          how much of it is drawn anew, above 0 and at most 1; default 0.8
  --control FILE.png[=WEIGHT]  what a ControlNet follows, one for each in their order; default weight 1
  --controlnet MODEL    a ControlNet, named as MODEL is; may be repeated; default: those of the pipeline
  --canny               follow the edges of these pictures, as canny ControlNets do`;

interface GuideValues {
  readonly image?: string | undefined;
  readonly strength?: string | undefined;
  readonly control?: readonly string[] | undefined;
  readonly canny: boolean;
}

/**
 * What the options say of pictures that guide.
 *
 * @throws InvalidArgumentError, SdxsError MISSING_FILE, MalformedFileError: before any model is loaded
 */
export async function readGuides({
  image,
  strength,
  control = [],
  canny: asEdges,
}: GuideValues): Promise<Pick<GenerateOptions, "image" | "strength" | "controls">> {
  if (asEdges && control.length === 0) throw new InvalidArgumentError("--canny needs a picture: give --control, too.");
  const controls = await Promise.all(
    control.map(async (option) => {
      const [, path = option, weight = "1"] = /^(.*\.png)=(.*)$/i.exec(option) ?? [];
      const scale = finite("--control's weight", weight);
      const picture = await readPicture("--control", path);
      return { image: asEdges ? canny(picture) : fromZeroToOne(picture), scale };
    }),
  );
  return {
    ...(image !== undefined && { image: await readPicture("--image", image) }),
    ...given("strength", strength, (text) => finite("--strength", text)),
    ...(controls.length > 0 && { controls }),
  };
}

async function readPicture(option: string, path: string): Promise<HostTensor> {
  const file = await readFile(path).catch((cause: unknown) => {
    throw new SdxsError("MISSING_FILE", `There is no file at ${path} for ${option}.`, { cause });
  });
  return fromPng(file).catch((error: unknown) => {
    if (!(error instanceof SdxsError)) throw error;
    throw new SdxsError(error.code, `${option} ${path}: ${error.message}`, { cause: error });
  });
}

const fromZeroToOne = ({ shape, data }: HostTensor): HostTensor =>
  new HostTensor(
    shape,
    Float32Array.from(data, (value) => (value + 1) / 2),
  );
