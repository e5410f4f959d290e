import { access } from "node:fs/promises";
import { dirname, parse, format } from "node:path";
import { toPng, toRgba } from "@sdxs/runtime";
import { InvalidArgumentError, SdxsError } from "@sdxs/tensor";
import { replaceFile } from "@sdxs/tensor/node";
import { given, pictureSize, readCommandLine, wholeNumber } from "./command-line.js";
import { fitGuides, guideOptions, guideUsage, readGuides } from "./guides.js";
import { loraUsage, readLoras } from "./loras.js";
import { drawingOf, drawingOptions, drawingUsage, modelUsage, openPipeline } from "./open-pipeline.js";
import type { Terminal } from "./terminal.js";

export const generateUsage = `sdxs generate MODEL --prompt TEXT [options]

Draws pictures and prints their files' paths.
${modelUsage}

  --prompt TEXT         may be repeated
  --negative-prompt TEXT  what the image should not show, with --guidance
  --count N             pictures of each prompt, with seeds that count up; default 1
  --seed N              default 0
  --seeds N,N,...       a picture of each prompt for each of these seeds, in place of --count and --seed
${drawingUsage}
${loraUsage}
${guideUsage}
  --size WxH            pixels; default: what the model was trained on
  --out FILE.png        default sdxs.png; several pictures are numbered: sdxs-1.png, sdxs-2.png`;

/** Draws one picture after the other: what is done when it is stopped stays. */
export async function generate(args: readonly string[], terminal: Terminal): Promise<void> {
  const { values, operands } = readCommandLine("generate", args, ["MODEL"], {
    prompt: { type: "string", multiple: true },
    "negative-prompt": { type: "string" },
    count: { type: "string" },
    seed: { type: "string" },
    seeds: { type: "string" },
    ...drawingOptions,
    size: { type: "string" },
    lora: { type: "string", multiple: true },
    ...guideOptions,
    out: { type: "string", default: "sdxs.png" },
  });
  const { prompt: prompts = [], out } = values;
  if (prompts.length === 0) throw new InvalidArgumentError("Give at least one --prompt. See: sdxs generate --help");
  const seeds = seedsOf(values);
  const drawing = drawingOf(values);
  const { guidanceScale = Infinity } = drawing; // where it is not given the model decides
  if (values["negative-prompt"] !== undefined && guidanceScale <= 1) {
    throw new InvalidArgumentError("--negative-prompt has no effect without guidance: give --guidance above 1.");
  }
  const size = values.size === undefined ? undefined : pictureSize("--size", values.size);
  await checkOutput(out);
  const guides = await readGuides(values);
  if (values["guess-mode"] && guides.controls.length === 0) {
    throw new InvalidArgumentError("--guess-mode has no effect without a ControlNet: give --control, too.");
  }

  const { pipeline, components, embeddings, warn } = await openPipeline(
    operands[0]!,
    terminal,
    drawing,
    guides.controls.length > 0 ? (values.controlnet ?? []) : undefined,
  );
  try {
    const options = {
      ...given("negativePrompt", values["negative-prompt"], (text) => text),
      ...fitGuides(guides, size, components, terminal),
      ...(values["guess-mode"] && { guessMode: true }),
      signal: terminal.signal,
    };
    const words = [...prompts, values["negative-prompt"] ?? ""].join("\n");
    for (const { token } of embeddings) {
      if (!words.includes(token)) warn(`no prompt holds the token of --embedding, ${JSON.stringify(token)}.`);
    }
    const loras = await readLoras(values.lora ?? [], components, terminal);
    const pictures = prompts.flatMap((prompt) => seeds.map((seed) => ({ prompt, seed })));
    for (const [index, { prompt, seed }] of pictures.entries()) {
      const place = `${index + 1}/${pictures.length}`;
      const { images, times } = await pipeline.generate(prompt, {
        ...options,
        loras,
        seed,
        onStep: (step, steps) => terminal.progress?.(`${place}: step ${step} of ${steps}`),
      });
      const path = pictures.length === 1 ? out : numbered(out, index + 1);
      await replaceFile(path, [await toPng(toRgba(images)[0]!)]);
      const ms = Math.round(times.textEncoder + times.unet + times.decoder);
      terminal.note(`${place}: ${JSON.stringify(prompt)}, seed ${seed}, ${ms} ms`);
      terminal.out(path);
    }
  } finally {
    await pipeline.dispose();
  }
}

/** @throws InvalidArgumentError */
function seedsOf({
  seeds,
  count,
  seed,
}: Readonly<Partial<Record<"seeds" | "count" | "seed", string | undefined>>>): readonly number[] {
  if (seeds === undefined) {
    const first = wholeNumber("--seed", seed ?? "0", 0);
    return Array.from({ length: wholeNumber("--count", count ?? "1", 1) }, (_, index) => first + index);
  }
  if (count !== undefined || seed !== undefined) {
    throw new InvalidArgumentError("--seeds says which pictures are drawn: leave --count and --seed out.");
  }
  return seeds.split(",").map((one) => wholeNumber("--seeds", one, 0));
}

/** Fails before anything is loaded where the picture could not be written in the end. */
async function checkOutput(path: string): Promise<void> {
  if (parse(path).ext.toLowerCase() !== ".png") {
    throw new InvalidArgumentError(`--out must be the name of a PNG file, as apple.png, got "${path}".`);
  }
  await access(dirname(path)).catch((cause: unknown) => {
    throw new SdxsError("MISSING_FILE", `There is no folder at ${dirname(path)} for --out. Create it first.`, {
      cause,
    });
  });
}

/** "a/apple.png" to "a/apple-2.png". */
function numbered(path: string, number: number): string {
  const { dir, name, ext } = parse(path);
  return format({ dir, name: `${name}-${number}`, ext });
}
