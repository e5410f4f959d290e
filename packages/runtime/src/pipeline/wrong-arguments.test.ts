import * as controlnet from "@sdxs/controlnet";
import * as diffusion from "@sdxs/diffusion";
import * as lora from "@sdxs/lora";
import { HostTensor, scope } from "@sdxs/tensor";
import { fromHost, referenceOps as ops } from "@sdxs/tensor/reference";
import * as tinyUNet from "@sdxs/tiny-unet";
import * as tinyVae from "@sdxs/tiny-vae";
import { expect, it } from "vitest";

// What callers in plain JavaScript may give, beyond what types allow.
const packages = { controlnet, diffusion, lora, tinyUNet, tinyVae };
const call = packages as unknown as Record<string, Record<string, (...args: unknown[]) => unknown>>;
const tensor = (...shape: number[]) => fromHost(HostTensor.filled(shape, 0.5));
const image = tensor(1, 3, 16, 16);
const channelsLast = tensor(1, 16, 16, 3);
const host = HostTensor.filled([1, 16, 16, 3], 0);
const schedule = diffusion.noiseSchedule();
const p = scope(ops, {});
const vae = tinyVae.parseAutoencoderTinyConfig({});
const unet = tinyUNet.parseUNetConfig({
  block_out_channels: [32, 64],
  cross_attention_dim: 16,
  down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D"],
  up_block_types: ["CrossAttnUpBlock2D", "UpBlock2D"],
});
/** Package, function and arguments that a newcomer might try. */
const cases: readonly (readonly [where: string, name: string, args: readonly unknown[]])[] = [
  ["diffusion", "noiseSchedule", [{ trainSteps: 0 }]],
  ["diffusion", "noiseSchedule", [{ kind: "cosine" }]],
  ["diffusion", "addNoise", [ops, image]],
  ["diffusion", "addNoise", [ops, image, image]],
  ["diffusion", "addNoise", [ops, image, image, 999]],
  ["diffusion", "addNoise", [image, image, { alpha: 1, sigma: 1 }]],
  ["diffusion", "velocity", [ops, image, image]],
  ["diffusion", "predictionTarget", [ops, "eps", image, image, { alpha: 1, sigma: 1 }]],
  ["diffusion", "predictedSample", [ops, "epsilon", image, image]],
  ["diffusion", "predictedSample", [ops, "eps", image, image, { alpha: 1, sigma: 1 }]],
  ["diffusion", "predictedNoise", [ops, "epsilon", image, image]],
  ["diffusion", "predictedVelocity", [ops, "epsilon", image, image]],
  ["diffusion", "guided", [ops, image]],
  ["diffusion", "guided", [ops, image, channelsLast, 2]],
  ["diffusion", "oneStepConversion", []],
  ["diffusion", "oneStepSample", [ops, image]],
  ["diffusion", "oneStepSample", [ops, image, image]],
  ["diffusion", "oneStepFromPlan", [{}]],
  ["diffusion", "noiseLevelAt", [schedule, 1000]],
  ["diffusion", "noiseLevelAt", [999]],
  ["diffusion", "gatherNoiseLevels", [ops, schedule, 999]],
  ["diffusion", "consistencySample", [ops, image, image, tensor(1)]],
  ["diffusion", "ddim", [schedule]],
  ["diffusion", "ddim", [schedule, { steps: 0 }]],
  ["diffusion", "ddim", [{ steps: 4 }]],
  ["diffusion", "euler", [schedule, {}]],
  ["diffusion", "dpmSolver", [schedule]],
  ["diffusion", "planFromConfig", ["EulerDiscreteScheduler", 4]],
  ["diffusion", "planFromConfig", [{ _class_name: "EulerDiscreteScheduler" }]],
  ["diffusion", "sample", [{ noise: host }]],
  ["diffusion", "sample", []],
  ["controlnet", "canny", [[1, 2, 3]]],
  ["controlnet", "canny", [host]],
  ["controlnet", "canny", [new HostTensor([3, 4, 4], new Float32Array(48))]],
  ["controlnet", "distanceToEdge", [[1, 2]]],
  ["controlnet", "parseControlNetConfig", []],
  ["tinyVae", "parseAutoencoderTinyConfig", []],
  ["tinyVae", "parseAutoencoderTinyConfig", ["config.json"]],
  ["tinyVae", "encodeTiny", [ops, p, vae]],
  ["tinyVae", "encodeTiny", [ops, p, vae, channelsLast]],
  ["tinyVae", "decodeTiny", [ops, p, vae]],
  ["tinyVae", "decodeTiny", [ops, p, vae, image]],
  ["tinyVae", "decodeTiny", [ops, {}, vae, image]],
  ["tinyUNet", "parseUNetConfig", []],
  ["tinyUNet", "parseUNetConfig", ["unet"]],
  ["tinyUNet", "unet", [ops, p, unet]],
  ["tinyUNet", "unet", [ops, p, unet, { sample: image }]],
  [
    "tinyUNet",
    "unet",
    [ops, p, unet, { sample: tensor(1, 16, 16, 4), timestep: tensor(1), encoderHiddenStates: tensor(1, 7, 16) }],
  ],
  ["tinyUNet", "planBlockRemoval", [unet, "sdxs"]],
  ["lora", "loraParameters", []],
  ["lora", "loraParameters", [tinyUNet.unetParameters(unet)]],
  ["lora", "loraParameters", [tinyUNet.unetParameters(unet), { rank: 0, targets: ["to_q"] }]],
  ["lora", "loraParameters", [tinyUNet.unetParameters(unet), { rank: 4, targets: "to_q" }]],
  ["lora", "readLora", [new Uint8Array(3), {}]],
  ["lora", "readLora", [{}]],
];
it.each(cases)("%s: %s says what was expected (%#)", async (where, name, args) => {
  const failure = await Promise.resolve()
    .then(() => call[where]![name]!(...args))
    .then(
      () => "no error",
      (error: unknown) => error,
    );
  expect(failure).toMatchObject({
    code: expect.stringMatching(/^(INVALID_ARGUMENT|SHAPE_MISMATCH|UNSUPPORTED_CONFIG)$/),
    message: expect.stringMatching(/expected|must be|must have|must hold|Supported|no preset|got/),
  });
});
