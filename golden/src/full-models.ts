import { readdir } from "node:fs/promises";
import { controlNetParameters, parseControlNetConfig } from "@sdxs/controlnet";
import { parseTextEncoderConfig, textEncoderParameters } from "@sdxs/runtime";
import { ShapeError, UnsupportedConfigError, checkParameters, sizeOf, type TensorSpec } from "@sdxs/tensor";
import { compareExactly, readModelListing, type CaseResult, type ModelListing } from "@sdxs/tensor/reference-case";
import { parseUNetConfig, unetParameters } from "@sdxs/tiny-unet";
import {
  autoencoderKlParameters,
  autoencoderTinyParameters,
  parseAutoencoderKlConfig,
  parseAutoencoderTinyConfig,
} from "@sdxs/tiny-vae";

type Specs = Readonly<Record<string, TensorSpec>>;

/** What declares the parameters of a class of diffusers or transformers, given its config.json. */
const declarations: Readonly<Record<string, (config: unknown) => Specs>> = {
  UNet2DConditionModel: (config) => unetParameters(parseUNetConfig(config)),
  ControlNetModel: (config) => controlNetParameters(parseControlNetConfig(config)),
  AutoencoderTiny: (config) => autoencoderTinyParameters(parseAutoencoderTinyConfig(config)),
  AutoencoderKL: (config) => autoencoderKlParameters(parseAutoencoderKlConfig(config)),
  CLIPTextModel: (config) => textEncoderParameters(parseTextEncoderConfig(config)),
  CLIPTextModelWithProjection: (config) => textEncoderParameters(parseTextEncoderConfig(config), { projection: true }),
};

/** Names, shapes and total of published models' parameters: NAME.json.gz for each. */
export async function checkFullModels(folder: URL): Promise<CaseResult> {
  const files = (await readdir(folder)).filter((file) => file.endsWith(".json.gz"));
  const listings = await Promise.all(files.map((file) => readModelListing(new URL(file, folder))));
  const comparisons = listings.map((listing, index) =>
    compareExactly("models", files[index]!, () => checkModel(listing)),
  );
  return { comparisons, unchecked: [] };
}

function checkModel({ class: name, config, total, parameters }: ModelListing): void {
  const declare = declarations[name];
  if (declare === undefined) throw new UnsupportedConfigError(`no check for the class ${name}`);
  const specs = declare(config);
  checkParameters(specs, Object.fromEntries(parameters.map(([parameter, shape]) => [parameter, { shape }])));
  const count = Object.values(specs).reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  if (count !== total) throw new ShapeError(`${count} parameters instead of ${total}`);
}
