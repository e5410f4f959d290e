import * as ort from "onnxruntime-node";
import { createPipeline } from "@sdxs/runtime";
import { loadPipelineFolder, savePipelineFolder } from "@sdxs/runtime/node";
import { HostTensor, random, type Backend, type TensorMap } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { PIXELS_PER_LATENT, type ComparedCase } from "./cases.js";

/** What one case was given and gave, by the names that diffusers_pipelines.py takes: `latents` and `images` are the results. */
export type Drawn = Readonly<Record<string, HostTensor>>;

/** Loads a pipeline's folder and saves it as another. */
export async function saveAgain(from: string, to: string, dtype: "F32" | "F16"): Promise<void> {
  await savePipelineFolder(to, await loadPipelineFolder(from), { dtype });
}

/** Draws cases of one pipeline's folder, one after another. `drawn` takes what each gave, or what it threw. */
export async function drawCases(
  folder: string,
  cases: readonly ComparedCase[],
  drawn: (one: ComparedCase, result: Drawn | Error) => Promise<void>,
): Promise<void> {
  const { components } = await loadPipelineFolder(folder);
  let seen: Record<string, HostTensor> = {};
  const backend = watched(onnxBackend({ ort, threads: 1 }), async (inputs, download) => {
    const keep = async (name: string, as: string): Promise<void> => {
      if (inputs[name] !== undefined) seen[as] = await download(inputs[name]);
    };
    if (inputs["timestep"] !== undefined) {
      await keep("noise", `step.${Object.keys(seen).filter((name) => name.startsWith("step.")).length}`);
    } else {
      for (const name of ["posterior", "noise", "latents"]) await keep(name, name);
    }
  });
  const pipeline = createPipeline({ components, backend });
  for (const one of cases) {
    const given = inputsOf(one);
    seen = {};
    try {
      const { images } = await pipeline.generate(one.prompts, optionsOf(one, given));
      await drawn(one, { ...given, ...seen, images });
    } catch (error) {
      await drawn(one, error instanceof Error ? error : new Error(String(error)));
    }
  }
  await pipeline.dispose();
}

/** Standard normal noise, and smooth pictures of the size, by the case's name. */
function inputsOf({ name, prompts, width, height, strength, controls }: ComparedCase) {
  const sides = [height / PIXELS_PER_LATENT, width / PIXELS_PER_LATENT];
  const noise = random("compare", name).normal([prompts.length, 4, ...sides]);
  const picture = (which: number): HostTensor => {
    const wave = (index: number): number => Math.sin(index * (0.11 + 0.07 * which)) * Math.cos(index / (width + which));
    const shape = [prompts.length, 3, height, width];
    return HostTensor.from(
      shape,
      Array.from({ length: prompts.length * 3 * height * width }, (_, index) => wave(index)),
    );
  };
  const condition = (which: number): HostTensor => {
    const { shape, data } = picture(which + 1);
    return new HostTensor(
      shape,
      Float32Array.from(data, (value) => (value + 1) / 2),
    );
  };
  return {
    noise,
    ...(strength !== undefined && { image: picture(0) }),
    ...Object.fromEntries(controls.map((_, index) => [`control.${index}`, condition(index)])),
  } as { readonly noise: HostTensor; readonly image?: HostTensor } & Drawn;
}

function optionsOf(
  { steps, guidanceScale, negativePrompt, eta, width, height, strength, controls }: ComparedCase,
  given: Drawn,
) {
  return {
    steps,
    guidanceScale,
    width,
    height,
    noise: given["noise"]!,
    ...(eta !== undefined && { eta }),
    ...(negativePrompt !== undefined && { negativePrompt }),
    ...(strength !== undefined && { strength, image: given["image"]! }),
    controls: controls.map((scale, index) => ({ image: given[`control.${index}`]!, scale })),
  };
}

type Watch<D> = (
  inputs: TensorMap<D | HostTensor>,
  download: (tensor: D | HostTensor) => Promise<HostTensor>,
) => Promise<void>;

/** A backend that shows the inputs of each run before it begins. */
function watched<D>(backend: Backend<D>, watch: Watch<D>): Backend<D> {
  const download = async (tensor: D | HostTensor): Promise<HostTensor> =>
    tensor instanceof HostTensor ? tensor : backend.download(tensor);
  return {
    ...backend,
    async compile(program, spec) {
      const compiled = await backend.compile(program, spec);
      return {
        ...compiled,
        async run(params, inputs) {
          await watch(inputs, download);
          return compiled.run(params, inputs);
        },
      };
    },
  };
}
