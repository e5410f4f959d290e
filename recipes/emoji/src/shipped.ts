import { fileURLToPath } from "node:url";
import { loadModel } from "@sdxs/runtime/node";
import type { HostParams } from "@sdxs/tensor";
import type { TrainedControlNet } from "./controlnet/stages.js";
import type { Student } from "./distil.js";

/** The tiny U-Net in many steps, made by `npm run recipe:emoji -- tiny-unet`. */
export const tinyUNetFolder = fileURLToPath(new URL("../tiny-unet", import.meta.url));

/** The one-step student that the demo draws with, made from it by `npm run recipe:emoji -- student`. */
export const studentFolder = fileURLToPath(new URL("../student", import.meta.url));

/** The student's ControlNet for edges, made by `npm run recipe:emoji -- controlnet`. */
export const controlNetFolder = fileURLToPath(new URL("../controlnet-edges", import.meta.url));

/** Weights of a tiny U-Net. Throws as `loadModel`. */
export async function readTinyUNet(folder: string = tinyUNetFolder): Promise<HostParams> {
  return (await loadModel(folder, { className: "UNet2DConditionModel" })).params;
}

/** U-Net, decoder and encoder of a student's diffusers folder. Throws as `loadModel`. */
export async function readStudent(folder: string = studentFolder): Promise<Student> {
  const [unet, vae] = await Promise.all([
    loadModel(`${folder}/unet`, { className: "UNet2DConditionModel" }),
    loadModel(`${folder}/vae`, { className: "AutoencoderTiny" }),
  ]);
  const half = (prefix: string) =>
    Object.fromEntries(Object.entries(vae.params).filter(([name]) => name.startsWith(prefix)));
  return { unet, decoder: half("decoder."), encoder: half("encoder.") };
}

/** A ControlNet of the student. Throws as `loadModel`. */
export function readControlNet(folder: string = controlNetFolder): Promise<TrainedControlNet> {
  return loadModel(folder, { className: "ControlNetModel" });
}
