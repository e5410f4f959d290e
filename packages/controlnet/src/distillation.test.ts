import { HostTensor, initialize, mapTensors, prefixed, random, withGradients, type Program } from "@sdxs/tensor";
import { expectOutput, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { copyParameters, parseUNetConfig, planBlockRemoval, unetDistillation, unetParameters } from "@sdxs/tiny-unet";
import { beforeAll, describe, expect, it } from "vitest";
import { controlNetDistillation } from "./distillation.js";
import { controlNetParameters } from "./controlnet.js";
import { controlNetFromUNet } from "./from-unet.js";

const teacherUNet = parseUNetConfig({
  block_out_channels: [8, 8, 8],
  layers_per_block: 1,
  norm_num_groups: 4,
  down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
  cross_attention_dim: 8,
  attention_head_dim: 2,
});
const plan = planBlockRemoval(teacherUNet, "sdxs-512");
const small = { conditioning_embedding_out_channels: [4, 4] };
const teacher = { unet: teacherUNet, controlNet: controlNetFromUNet(teacherUNet, small).config };
const { config: controlNet } = controlNetFromUNet(plan.config, small);
const program = controlNetDistillation({ teacher, plan, controlNet, featureWeight: 0.5 });

const unetParams = initialize(unetParameters(teacherUNet), 1);
const tiny = { ...initialize(unetParameters(plan.config), 2), ...copyParameters(plan, unetParams) };
/** New ControlNets, which leave their U-Nets as they are. */
const params = {
  ...prefixed(unetParams, "teacher.unet."),
  ...prefixed(initialize(controlNetParameters(teacher.controlNet), 3), "teacher.controlnet."),
  ...prefixed(tiny, "student."),
  ...prefixed(initialize(controlNetParameters(controlNet), 4), "controlnet."),
};
const unetInputs = {
  sample: random(5).normal([2, 4, 8, 8]),
  timestep: HostTensor.from([2], [20, 700]),
  encoderHiddenStates: random(6).normal([2, 5, 8]),
};
const inputs = { ...unetInputs, condition: random(7).uniform([2, 3, 16, 16]) };

/** Parameters that begin as zeros made random, so that every one of them matters. */
const trained = (group: string, seed: number) =>
  mapTensors(params, (tensor, name) =>
    name.startsWith(group) && tensor.data.every((value) => value === 0)
      ? HostTensor.from(
          tensor.shape,
          random(seed, name)
            .normal(tensor.shape)
            .data.map((value) => 0.3 * value),
        )
      : tensor,
  );

describe.each(testBackends)("controlNetDistillation on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it("is the U-Net's distillation by outputs and the decoder's features, where the ControlNets do nothing", async () => {
    const decoder = plan.features.filter(({ student }) => student.startsWith("up_blocks"));
    expect(decoder.length).toBeGreaterThan(0);
    expect(decoder.length).toBeLessThan(plan.features.length);
    const plain = unetDistillation({ teacher: teacherUNet, plan: { ...plan, features: decoder }, featureWeight: 0.5 });
    const expected = await run(
      plain,
      { ...prefixed(unetParams, "teacher."), ...prefixed(tiny, "student.") },
      unetInputs,
    );
    const actual = await run(program, params, inputs);
    for (const [name, tensor] of Object.entries(expected)) expectOutput(name, actual[name as "loss"], tensor);
  });

  it("depends on either ControlNet, and teaches the student's alone", async () => {
    const { loss: without } = await run(program, params, inputs);
    const { loss: taught } = await run(program, trained("teacher.controlnet.", 8), inputs);
    expect(Math.abs(taught.item() - without.item())).toBeGreaterThan(1e-3);

    const learned = trained("controlnet.", 9);
    const names = Object.keys(learned).filter((name) => name.startsWith("controlnet."));
    const gradients = await run(withGradients(program as Program, names), learned, inputs);
    for (const name of names) {
      expect(gradients[`grad.${name}`]!.data.some((value) => value !== 0)).toBe(true);
    }
    expect(Object.keys(gradients).filter((name) => name.startsWith("grad.student"))).toEqual([]);
  });

  it("is 0 where student and teacher are the same", async () => {
    const same = { config: teacherUNet, features: [{ teacher: "up_blocks.0", student: "up_blocks.0" }] };
    const equal = controlNetDistillation({ teacher, plan: same, controlNet: teacher.controlNet });
    const weights = trained("teacher.controlnet.", 8);
    const copies = Object.entries(weights).flatMap(([name, tensor]) =>
      name.startsWith("teacher.controlnet.")
        ? [[name.replace("teacher.", ""), tensor] as const]
        : name.startsWith("teacher.unet.")
          ? [[name.replace("teacher.unet.", "student."), tensor] as const]
          : [],
    );
    const { loss } = await run(equal, { ...weights, ...Object.fromEntries(copies) }, inputs);
    expect(loss.item()).toBe(0);
  });
});
