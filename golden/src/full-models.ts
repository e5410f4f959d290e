import { readdir } from "node:fs/promises";
import {
  isModelClassName,
  modelClasses,
  type ModelClass,
} from "../../packages/runtime/src/checkpoints/model-classes.js";
import { ShapeError, UnsupportedConfigError, checkParameters, sizeOf } from "@sdxs/tensor";
import { compareExactly, readModelListing, type CaseResult, type ModelListing } from "@sdxs/tensor/reference-case";

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
  if (!isModelClassName(name)) throw new UnsupportedConfigError(`no check for the class ${name}`);
  const { parse, parameters: declare } = modelClasses[name] as ModelClass<unknown>; // each of its own configuration
  const specs = declare(parse(config));
  checkParameters(specs, Object.fromEntries(parameters.map(([parameter, shape]) => [parameter, { shape }])));
  const count = Object.values(specs).reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  if (count !== total) throw new ShapeError(`${count} parameters instead of ${total}`);
}
