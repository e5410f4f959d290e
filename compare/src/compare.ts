import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { InvalidArgumentError, SdxsError, type HostTensor } from "@sdxs/tensor";
import { readSafetensorsFile, writeSafetensorsFile } from "@sdxs/tensor/node";
import { comparedCases, comparedPipelines, type ComparedCase } from "./cases.js";
import { drawCases, saveAgain } from "./draw.js";
import { findEnvironment, runPython } from "./environment.js";
import { difference, report, type Outcome } from "./report.js";

const USAGE = `Usage: npm run compare:diffusers -- ENV [options]
  ENV              where real diffusers is: a virtual environment, a Python, or a folder with env.sh to source
  --python FILE    the Python beside an env.sh
  --only TEXT      cases whose name contains it
  --keep FOLDER    an empty or new folder for the pipelines and all results; default: a temporary one`;

const script = fileURLToPath(new URL("../diffusers_pipelines.py", import.meta.url));

/**
 * Draws the same pictures by the pipelines here and by real diffusers, and prints how far they are apart.
 * Returns the exit code: 0 where all agree, 1 where one does not or was not compared, 2 for arguments that cannot be used.
 */
export async function compare(args: readonly string[], print: (line: string) => void): Promise<number> {
  try {
    const { place, python, only, keep } = parseCompareArguments(args);
    const environment = findEnvironment(place, python);
    const cases = comparedCases.filter(({ name }) => name.includes(only));
    if (cases.length === 0) throw new InvalidArgumentError(`no case's name contains ${JSON.stringify(only)}.`);
    const folder = keep ?? (await mkdtemp(join(tmpdir(), "sdxs-compare-")));
    try {
      const { lines, ok } = report(await outcomesOf(folder, cases, environment, print));
      for (const line of lines) print(line);
      return ok ? 0 : 1;
    } finally {
      if (keep === undefined) await rm(folder, { recursive: true });
    }
  } catch (error) {
    if (!(error instanceof SdxsError)) throw error;
    print(`compare: ${error.message}\n\n${USAGE}`);
    return 2;
  }
}

function parseCompareArguments(args: readonly string[]) {
  const options = {
    python: { type: "string" },
    only: { type: "string", default: "" },
    keep: { type: "string" },
  } as const;
  try {
    const { values, positionals } = parseArgs({ args: [...args], allowPositionals: true, options });
    const [place, ...rest] = positionals;
    if (place === undefined || rest.length > 0)
      throw new Error(`one environment is expected, got ${positionals.length}.`);
    return { ...values, place, keep: values.keep === undefined ? undefined : resolve(values.keep) };
  } catch (cause) {
    throw new InvalidArgumentError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** A line of what makes the pipelines. */
interface Made {
  readonly versions?: Readonly<Record<string, string>>;
  /** One that the environment cannot make, for lack of a package. */
  readonly pipeline?: string;
  readonly missing?: string;
}

async function outcomesOf(
  folder: string,
  cases: readonly ComparedCase[],
  environment: ReturnType<typeof findEnvironment>,
  print: (line: string) => void,
): Promise<Outcome[]> {
  const used = new Set(cases.map(({ pipeline }) => pipeline));
  const pipelines = comparedPipelines.filter(({ name }) => used.has(name));
  const ours = join(folder, "ours");
  await mkdir(ours, { recursive: true });
  await writeFile(join(folder, "cases.json"), JSON.stringify({ pipelines, cases }));
  for await (const line of runPython(environment, [script, "make", folder])) {
    const { versions, pipeline, missing } = JSON.parse(line) as Made;
    if (versions !== undefined) print(Object.entries(versions).flat().join(" "));
    if (pipeline === undefined) continue;
    print(`left out: ${pipeline}: ${missing}`);
    used.delete(pipeline);
  }

  // Ours first: what noise they took goes to diffusers.
  const results = new Map<string, { readonly latents: HostTensor; readonly images: HostTensor }>();
  const outcomes = new Map<string, Outcome>();
  const without = ({ name, pipeline }: ComparedCase, by: "sdxs" | "diffusers", message: string): void => {
    outcomes.set(name, { name, pipeline, by, message });
  };
  for (const { name, saved } of pipelines) {
    if (!used.has(name)) continue;
    const mine = cases.filter(({ pipeline }) => pipeline === name);
    const made = join(folder, "pipelines", name);
    try {
      if (saved !== undefined) await saveAgain(made, join(folder, "saved", name), saved);
      await drawCases(saved === undefined ? made : join(folder, "saved", name), mine, async (one, drawn) => {
        if (drawn instanceof Error) {
          without(one, "sdxs", drawn.message);
          return;
        }
        const { images, latents, ...given } = drawn;
        results.set(one.name, { images: images!, latents: latents! });
        await writeSafetensorsFile(join(ours, `${one.name}.safetensors`), given);
      });
    } catch (error) {
      if (!(error instanceof SdxsError)) throw error;
      for (const one of mine) without(one, "sdxs", error.message);
    }
    print(`drawn here: ${name}`);
  }

  for await (const line of runPython(environment, [script, "draw", folder])) {
    const { name, error } = JSON.parse(line) as { readonly name: string; readonly error?: string };
    const one = cases.find((candidate) => candidate.name === name)!;
    if (error !== undefined) {
      without(one, "diffusers", error);
      continue;
    }
    const { tensors } = await readSafetensorsFile(join(folder, "diffusers", `${name}.safetensors`));
    const { latents, images } = results.get(name)!;
    outcomes.set(name, {
      name,
      pipeline: one.pipeline,
      latents: difference(latents.data, tensors["latents"]!.data),
      images: difference(images.data, tensors["images"]!.data),
    });
  }
  return cases.flatMap(({ name }) => outcomes.get(name) ?? []);
}
