import { afterAll, describe, expect, it } from "vitest";
import * as ort from "onnxruntime-node";
import { mergeLora, readLora, writeLora, type Lora } from "@sdxs/lora";
import { HostTensor } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { countingBackend } from "./counting-backend.test-support.js";
import { components, expectClose, randomLora } from "./pipeline-case.test-support.js";
import { createPipeline } from "./pipeline.js";

const { backend, counted } = countingBackend(onnxBackend({ ort, threads: 1 }));
const uploadsOf = async (call: () => Promise<unknown>): Promise<number> => {
  counted();
  await call();
  return counted().uploads;
};

const { unet, text_encoder: text } = components;
const models = { unet: unet.params, text_encoder: text.params };

const ofAttention = randomLora(unet.params, ["to_q", "to_v"], 1);
const ofConvolutions = randomLora(unet.params, ["conv1"], 2);
const ofText = randomLora(text.params, ["q_proj", "fc1"], 3);
const layers = ({ alphas }: Lora<HostTensor>): number => Object.keys(alphas).length;

/** Of a pipeline whose own weights are merged ones. */
async function merged(...adapters: { unet?: Lora<HostTensor>; text_encoder?: Lora<HostTensor>; weight?: number }[]) {
  const of = (part: "unet" | "text_encoder") =>
    mergeLora(
      models[part],
      adapters.flatMap(({ [part]: adapter, weight = 1 }) => (adapter ? [{ ...adapter, weight }] : [])),
    );
  const other = createPipeline({
    components: {
      ...components,
      unet: { ...unet, params: of("unet") },
      text_encoder: { ...text, params: of("text_encoder") },
    },
    backend: backend,
  });
  const { images } = await other.generate("red");
  await other.dispose();
  return images;
}

describe("LoRAs of a request", () => {
  const pipeline = createPipeline({ components, backend });
  afterAll(() => pipeline.dispose());
  const draw = async (...loras: Parameters<typeof merged>) => (await pipeline.generate("red", { loras })).images;

  it("draw what merged weights draw, weighed, several at once, and of the text encoder", async () => {
    for (const loras of [
      [{ unet: ofAttention }],
      [{ unet: ofAttention, weight: 0.5 }],
      [{ unet: ofAttention }, { unet: ofConvolutions, weight: -0.5 }],
      [{ text_encoder: ofText }],
      [{ unet: ofConvolutions, text_encoder: ofText, weight: 0.5 }],
    ]) {
      expectClose(await draw(...loras), await merged(...loras));
    }
  });

  it("leave no trace, bit for bit", async () => {
    const { images: fresh } = await createPipeline({ components, backend: backend }).generate("red");
    expect((await draw()).data).toEqual(fresh.data);
    const styled = await draw({ unet: ofAttention, text_encoder: ofText });
    expect(styled.data).not.toEqual(fresh.data);
    expect((await draw()).data).toEqual(fresh.data);
    expect((await draw({ unet: ofAttention, text_encoder: ofText })).data).toEqual(styled.data);
  });

  it("upload the weights that they change alone, and only where something changes", async () => {
    await draw({ unet: ofAttention, text_encoder: ofText }, { unet: ofConvolutions }); // all of them, once
    await draw();
    const unetLayers = layers(ofAttention) + layers(ofConvolutions);
    expect(await uploadsOf(() => draw({ unet: ofAttention }, { unet: ofConvolutions }))).toBe(unetLayers);
    expect(await uploadsOf(() => draw({ unet: ofAttention }, { unet: ofConvolutions }))).toBe(0);
    expect(await uploadsOf(() => draw({ unet: ofAttention }, { unet: ofConvolutions, weight: 2 }))).toBe(unetLayers);
    expect(await uploadsOf(() => draw())).toBe(0);
  });

  it("come from files", async () => {
    const tensors = writeLora({ unet: ofAttention, text_encoder: ofText }, models, "kohya");
    const { loras } = readLora({ tensors }, models);
    expect((await draw(loras)).data).toEqual((await draw({ unet: ofAttention, text_encoder: ofText })).data);
  });

  it("are warned of where the pipeline lacks a network of theirs, and refused where they are no LoRAs", async () => {
    const { warnings } = await pipeline.generate("red", { loras: [{ unet: ofAttention, text_encoder_2: ofText }] });
    expect(warnings).toEqual([expect.stringContaining("part for text_encoder_2 has no effect")]);
    const file = { loras: { unet: ofAttention } };
    await expect(pipeline.generate("red", { loras: [file as object] })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining('got "loras"'),
    });
  });

  it("are refused where they do not fit, and nothing of them is kept", async () => {
    const before = await draw();
    const wrong = { params: { "nowhere.lora_A.weight": HostTensor.filled([1, 1], 0) }, alphas: {} };
    await expect(draw({ unet: wrong, text_encoder: ofText })).rejects.toMatchObject({
      code: "UNEXPECTED_PARAMETER",
      message: expect.stringContaining("nowhere"),
    });
    expect((await draw()).data).toEqual(before.data);
  });
});
