import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  HostTensor,
  countArithmetic,
  random,
  sizeOf,
  type Backend,
  type HostParams,
  type Program,
  type TensorSpec,
} from "@sdxs/tensor";
import { saveModel } from "@sdxs/runtime/node";
import { klDecoderParameters, klEncoderParameters, tinyDecoderParameters, tinyEncoderParameters } from "@sdxs/tiny-vae";
import { takeRows } from "@sdxs/training";
import { concatRows, mapBatches, rowCount, takeOutputs } from "../../../rows.js";
import { pixelQuality } from "../../../pixel-quality.js";
import { contactSheet } from "../../../contact-sheet.js";
import type { EmojiDataset } from "../dataset.js";
import { frechetDistance } from "../evaluation/frechet-distance.js";
import type { Judge } from "../evaluation/judge.js";
import { tinyAutoencoderConfig as config } from "../models.js";
import { imageDecoder, imageEncoder } from "../../../diffusion-model.js";
import { imageSpec, latentSpec, tinyImageDecoder, tinyImageEncoder } from "../networks.js";
import { medianMs, type Pictures } from "../report.js";
import {
  decoderObjectives,
  distilTinyDecoder,
  distilTinyEncoder,
  type TinyVaeDistillationOptions,
} from "./distil-tiny-vae.js";
import { imageQuality, relativeError } from "./image-quality.js";
import { reconstruct, type ReconstructedPictures } from "./pictures.js";
import { decoderTable, encoderTable, type DecoderFigures, type EncoderFigures, type NetworkCost } from "./tables.js";

export interface TinyVaeComparisonOptions<D> extends Omit<TinyVaeDistillationOptions<D>, "training" | "heldOut"> {
  readonly judge: Pick<Judge, "features" | "perceptualDistances">;
  readonly dataset: EmojiDataset;
  /** Pictures whose reconstructions are compared as a whole, [pictures, 3, 64, 64]. */
  readonly evaluation: HostTensor;
  /** With these, the judge's features of them. */
  readonly reference: HostTensor;
  /** Pictures of the training set that the tiny networks learn from. */
  readonly pictures: number;
  /** Where tables, picture and weights go. */
  readonly outputFolder: string;
}

/**
 * Trains tiny decoders by each of the objectives, and a tiny encoder, all with the same budget, and compares them with the
 * large autoencoder on pictures that are held out.
 *
 * Leaves "table.md", "reconstructions.png" and "tiny-vae", the encoder with the last objective's decoder in diffusers'
 * layout. Returns the tables.
 */
export async function compareTinyAutoencoders<D>(options: TinyVaeComparisonOptions<D>): Promise<string> {
  const { dataset, seed, outputFolder } = options;
  const comparison = {
    ...options,
    training: await reconstruct(options, "training", dataset.batch(seed, 0, options.pictures).images),
    heldOut: await reconstruct(options, "held out", heldOutPictures(dataset)),
    evaluated: await reconstruct(options, "evaluation set", options.evaluation),
  };
  const decoders = await compareDecoders(comparison);
  const encoders = await compareEncoders(comparison);
  const tables = `${decoders.table}\n${encoders.table}`;
  const params = { ...encoders.params, ...decoders.params };
  await saveModel(join(outputFolder, "tiny-vae"), { className: "AutoencoderTiny", config, params });
  await writeFile(join(outputFolder, "reconstructions.png"), await contactRows([...decoders.shown, ...encoders.shown]));
  await writeFile(join(outputFolder, "table.md"), tables);
  return tables;
}

interface Comparison {
  readonly table: string;
  /** What each network makes of the held-out pictures. */
  readonly shown: readonly Pictures[];
  /** Of the last tiny network. */
  readonly params: HostParams;
}

interface ComparedOptions<D>
  extends TinyVaeDistillationOptions<D>, Pick<TinyVaeComparisonOptions<D>, "judge" | "reference"> {
  readonly evaluated: ReconstructedPictures;
}

async function compareDecoders<D>(options: ComparedOptions<D>): Promise<Comparison> {
  const { backend, autoencoder, judge, heldOut, evaluated, reference } = options;
  const { originals, latents, decoded } = heldOut;
  const inputs = { latents: latentSpec(1) };
  const frechet = async (images: HostTensor): Promise<number> =>
    frechetDistance(reference, await judge.features(images));
  const figures: DecoderFigures[] = [
    {
      name: "AutoencoderKL",
      ...(await networkCost(backend, {
        program: imageDecoder(autoencoder.config),
        specs: klDecoderParameters(autoencoder.config),
        params: autoencoder.params,
        inputs,
      })),
      toOriginals: await imageQuality(backend, judge, decoded, originals),
      frechet: await frechet(evaluated.decoded),
    },
  ];
  const shown: Pictures[] = [
    { label: "original", images: originals },
    { label: "AutoencoderKL", images: decoded },
  ];
  const program = tinyImageDecoder(config);
  let params: HostParams = {};
  for (const [name, objective] of Object.entries(decoderObjectives)) {
    params = await distilTinyDecoder(options, name, objective);
    const { images } = await mapBatches(backend, program, params, { latents }, 16);
    const all = await mapBatches(backend, program, params, { latents: evaluated.latents }, 16);
    figures.push({
      name: `tiny, ${name}`,
      ...(await networkCost(backend, { program, specs: tinyDecoderParameters(config), params, inputs })),
      toOriginals: await imageQuality(backend, judge, images, originals),
      toLarge: await pixelQuality(backend, images, decoded),
      frechet: await frechet(all.images),
    });
    shown.push({ label: `tiny decoder, ${name}`, images });
  }
  return { table: decoderTable(figures), shown, params };
}

async function compareEncoders<D>(options: ComparedOptions<D>): Promise<Comparison> {
  const { backend, autoencoder, judge, heldOut } = options;
  const { originals, latents, decoded } = heldOut;
  const inputs = { images: imageSpec(1) };
  const program = tinyImageEncoder(config);
  const params = await distilTinyEncoder(options);
  const encoded = await mapBatches(backend, program, params, { images: originals }, 16);
  const { images } = await mapBatches(backend, imageDecoder(autoencoder.config), autoencoder.params, encoded, 16);
  const figures: EncoderFigures[] = [
    {
      name: "AutoencoderKL",
      ...(await networkCost(backend, {
        program: imageEncoder(autoencoder.config),
        specs: klEncoderParameters(autoencoder.config),
        params: autoencoder.params,
        inputs,
      })),
      latentError: 0,
      toOriginals: await imageQuality(backend, judge, decoded, originals),
    },
    {
      name: "tiny",
      ...(await networkCost(backend, { program, specs: tinyEncoderParameters(config), params, inputs })),
      latentError: relativeError(encoded.latents, latents),
      toOriginals: await imageQuality(backend, judge, images, originals),
    },
  ];
  return { table: encoderTable(figures), shown: [{ label: "tiny encoder, AutoencoderKL's decoder", images }], params };
}

/** All combinations that no training picture shows, undistorted, [pictures, 3, 64, 64]. */
function heldOutPictures(dataset: EmojiDataset): HostTensor {
  const { shape } = imageSpec(1);
  return concatRows(
    dataset.heldOutCombinations.map((combination) => new HostTensor(shape, dataset.render(combination))),
  );
}

interface Network<In extends string> {
  readonly program: Program<In>;
  /** The parameters that it uses, of `params`. */
  readonly specs: Readonly<Record<string, TensorSpec>>;
  readonly params: HostParams;
  /** Of one image. */
  readonly inputs: Readonly<Record<In, TensorSpec>>;
}

async function networkCost<D, In extends string>(
  backend: Backend<D>,
  { program, specs, params, inputs }: Network<In>,
): Promise<NetworkCost> {
  const compiled = await backend.compile(program, { frozen: params, inputs });
  const feeds = Object.fromEntries(
    Object.entries<TensorSpec>(inputs).map(([name, { shape }]) => [name, random("costs", name).normal(shape)]),
  ) as Record<In, HostTensor>;
  const msPerImage = await medianMs(50, async () => {
    await takeOutputs(backend, await compiled.run({}, feeds));
  });
  await compiled.dispose();
  return {
    parameters: Object.values(specs).reduce((sum, { shape }) => sum + sizeOf(shape), 0),
    multiplyAdds: countArithmetic(program, specs, inputs).multiplyAdds,
    msPerImage,
  };
}

/** Some of the pictures, evenly chosen, a row for each, magnified so that edges can be judged. */
function contactRows(columns: readonly Pictures[]): Promise<Buffer> {
  const rows = 5;
  const total = rowCount(columns[0]?.images);
  const chosen = Array.from({ length: rows }, (_, row) => Math.floor(((row + 0.5) * total) / rows));
  const cells = chosen.flatMap((picture) => columns.map(({ images }) => takeRows(images, [picture])));
  const labels = chosen.flatMap(() => columns.map(({ label }) => label));
  return contactSheet(concatRows(cells), labels, { columns: columns.length, magnification: 3 });
}
