import { HostTensor, initialize, mapTensors, scope, select, sizeOf, type Ops, type TensorMap } from "@sdxs/tensor";
import { expectGradient, expectOutput, listShapes, maxAbs, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { beforeAll, describe, expect, it } from "vitest";
import {
  dinoV2Features,
  dinoV2Parameters,
  dinoV2Presets,
  normalizedImages,
  parseDinoV2Config,
  sequentialFeatures,
  vgg16Features,
  vgg16Parameters,
  type CnnLayer,
} from "../extractors.js";
import { expectClose, fixtureTensors } from "../reference.test-support.js";

const vgg16 = await fixtureTensors("vgg16");
const dino = await fixtureTensors("dinov2");

const parameterCount = (specs: Readonly<Record<string, { readonly shape: readonly number[] }>>): number =>
  Object.values(specs).reduce((sum, { shape }) => sum + sizeOf(shape), 0);

/** Features as "0", "1", ..., and the gradient by the images of the sum of what `measure` makes of each. */
const featuresAndGradient =
  (
    extract: <T>(ops: Ops<T>, params: TensorMap<T>, images: T) => readonly T[],
    measure: <T>(ops: Ops<T>, map: T) => T,
  ) =>
  <T>(ops: Ops<T>, params: TensorMap<T>, { images }: TensorMap<T>): TensorMap<T> => {
    const { aux, grads } = ops.valueAndGrad(
      ({ images }) => {
        const maps = extract(ops, params, images!);
        const loss = maps.map((map) => measure(ops, map)).reduce((sum, term) => ops.add(sum, term));
        return { loss, aux: Object.fromEntries(maps.map((map, index) => [String(index), map])) };
      },
      { images: images! },
    );
    return { ...aux, "grad.images": grads["images"]! };
  };

/** The numbers of `hashed` in fixtures/make_fixtures.py: from their places, in [-bound, bound). */
function hashed(shape: readonly number[], begin: number, bound: number): HostTensor {
  const data = new Float32Array(sizeOf(shape));
  for (let i = 0; i < data.length; i++) {
    let h = begin + i;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    h = (h ^ (h >>> 16)) >>> 0;
    data[i] = (h / 2 ** 31 - 1) * bound;
  }
  return new HostTensor(shape, data);
}

describe("parameters of extractors", () => {
  it("of VGG16 are torchvision's", () => {
    const specs = vgg16Parameters();
    expect(parameterCount(specs)).toBe(14_714_688); // of torchvision.models.vgg16().features
    expect(Object.keys(specs).slice(0, 4)).toEqual([
      "features.0.weight",
      "features.0.bias",
      "features.2.weight",
      "features.2.bias",
    ]);
    expect(listShapes(specs)).toMatchObject({
      "features.5.weight": [128, 64, 3, 3],
      "features.28.weight": [512, 512, 3, 3],
      "features.28.bias": [512],
    });
    expect(Object.keys(vgg16Parameters({ layers: ["relu2_1"], pooling: "l2" }))).toHaveLength(6);
  });

  it("of DINOv2 small are transformers' but for the mask token and the final norm", () => {
    const blocks = [2, 5, 8, 11];
    const specs = dinoV2Parameters(dinoV2Presets.small, blocks);
    expect(parameterCount(specs)).toBe(22_056_576 - 384 - 2 * 384); // of Dinov2Model with that configuration
    expect(listShapes(specs)).toMatchObject({
      "embeddings.position_embeddings": [1, 1370, 384],
      "embeddings.patch_embeddings.projection.weight": [384, 3, 14, 14],
      "encoder.layer.11.mlp.fc1.weight": [1536, 384],
    });
    expect(parameterCount(dinoV2Parameters(dinoV2Presets.small, [0]))).toBeLessThan(3e6);
  });

  it("of a small DINOv2 are named as in its checkpoint", () => {
    const weights = select(dino, "weights.");
    expect(listShapes(dinoV2Parameters(smallDino, [2]))).toEqual(mapTensors(weights, ({ shape }) => shape));
  });
});

const smallDino = parseDinoV2Config({
  hidden_size: 8,
  num_attention_heads: 2,
  num_hidden_layers: 3,
  patch_size: 4,
  image_size: 12,
});

describe("parseDinoV2Config", () => {
  it.each([
    ["use_swiglu_ffn", true],
    ["model_type", "dinov2_with_registers"],
    ["num_attention_heads", 7],
  ])("refuses %s: %j and names the field and its value", (field, value) => {
    expect(() => parseDinoV2Config({ [field]: value })).toThrow(
      expect.objectContaining({
        code: "UNSUPPORTED_CONFIG",
        message: expect.stringContaining(`"${field}" is ${JSON.stringify(value)}`),
      }),
    );
  });
});

describe.each(testBackends)("feature extractors on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it.each(["max", "l2"] as const)("VGG16 with %s pooling has PyTorch's features and gradient", async (pooling) => {
    let begin = 0;
    const weights = mapTensors(vgg16Parameters({ pooling }), ({ shape }) => {
      const bound = shape.length === 1 ? 0.1 : Math.sqrt(6 / sizeOf(shape.slice(1)));
      begin += sizeOf(shape);
      return hashed(shape, begin - sizeOf(shape), bound);
    });
    const program = featuresAndGradient(
      (ops, params, images) => vgg16Features(ops, scope(ops, params), images, { pooling }),
      (ops, map) => ops.mean(map),
    );
    const result = await run(program, weights, { images: vgg16["images"]! });
    for (const block of [0, 1, 2, 3, 4]) {
      const expected = vgg16[`${pooling}.${block}`]!;
      expectOutput(`block ${block}`, everySixteenthChannel(result[String(block)]!), expected);
    }
    const gradient = vgg16[`${pooling}.grad.images`]!;
    expectGradient("images", result["grad.images"], gradient, maxAbs(gradient));
  });

  it.each(["native", "resized"])("DINOv2 at its %s size has PyTorch's features and gradient", async (size) => {
    const program = featuresAndGradient(
      (ops, params, images) => dinoV2Features(ops, scope(ops, params), smallDino, images, [0, 1, 2]),
      (ops, map) => ops.mean(ops.square(map)),
    );
    const result = await run(program, select(dino, "weights."), { images: dino[`${size}.images`]! });
    for (const block of ["0", "1", "2"]) expectOutput(`block ${block}`, result[block], dino[`${size}.${block}`]);
    const gradient = dino[`${size}.grad.images`]!;
    expectGradient("images", result["grad.images"], gradient, maxAbs(gradient));
  });

  it("a sequence of layers gives the wanted outputs, in their order", async () => {
    const layers: CnnLayer[] = [
      { type: "convolution", channels: 1, kernel: 1 },
      { type: "relu" },
      { type: "max-pool" },
      { type: "convolution", channels: 2, kernel: 1, bias: false },
      { type: "average-pool" },
    ];
    const program = <T>(ops: Ops<T>, params: TensorMap<T>, { x }: TensorMap<T>): TensorMap<T> => {
      const [last, pooled, rectified] = sequentialFeatures(ops, scope(ops, params), x!, layers, [4, 2, 1]);
      return { last: last!, pooled: pooled!, rectified: rectified! };
    };
    const weights = {
      "0.weight": HostTensor.from([1, 1, 1, 1], [2]),
      "0.bias": HostTensor.from([1], [-4]),
      "3.weight": HostTensor.from([2, 1, 1, 1], [1, -1]),
    };
    // The last of five columns is dropped.
    const x = HostTensor.from([1, 1, 4, 5], [0, 1, 2, 3, 9, 4, 5, 6, 7, 9, 0, 1, 2, 3, 9, 0, 0, 0, 0, 9]);
    const result = await run(program, weights, { x });
    expect(result["rectified"]!.shape).toEqual([1, 1, 4, 5]);
    expectClose(result["rectified"]!.data.slice(0, 5), [0, 0, 0, 2, 14], 1e-6);
    expectClose(result["pooled"]!.data, [6, 10, 0, 2], 1e-6);
    expectClose(result["last"]!.data, [4.5, -4.5], 1e-6);
  });

  it("images in [-1, 1] take ImageNet's mean and deviation", async () => {
    const program = <T>(ops: Ops<T>, _params: TensorMap<T>, { images }: TensorMap<T>) => ({
      normalized: normalizedImages(ops, images!),
    });
    const images = HostTensor.from([1, 3, 1, 2], [-1, 1, -1, 1, -1, 1]);
    const { normalized } = await run(program, {}, { images });
    // torchvision: (0 - 0.485) / 0.229, (1 - 0.485) / 0.229, and so on.
    expectClose(
      normalized.data,
      [-0.485 / 0.229, 0.515 / 0.229, -0.456 / 0.224, 0.544 / 0.224, -0.406 / 0.225, 0.594 / 0.225],
      1e-6,
    );
  });

  it("refuse images and choices that do not fit", async () => {
    const attempt = (extract: <T>(ops: Ops<T>, params: TensorMap<T>, images: T) => readonly T[], shape: number[]) => {
      const specs = { ...vgg16Parameters({ layers: ["relu1_1"] }), ...dinoV2Parameters(smallDino, [0]) };
      const program = <T>(ops: Ops<T>, params: TensorMap<T>, { images }: TensorMap<T>) => ({
        first: extract(ops, params, images!)[0]!,
      });
      return run(program, initialize(specs, 1), { images: HostTensor.filled(shape, 0) });
    };
    await expect(
      attempt((ops, params, images) => vgg16Features(ops, scope(ops, params), images), [1, 1, 16, 16]),
    ).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
    await expect(
      attempt(
        (ops, _params, images) => sequentialFeatures(ops, scope(ops, {}), images, [{ type: "max-pool" }], [0]),
        [1, 3, 1, 2],
      ),
    ).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
    await expect(
      attempt(
        (ops, _params, images) => sequentialFeatures(ops, scope(ops, {}), images, [{ type: "relu" }], [1]),
        [1, 3, 2, 2],
      ),
    ).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(
      attempt((ops, params, images) => dinoV2Features(ops, scope(ops, params), smallDino, images, [0]), [1, 3, 12, 13]),
    ).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
    await expect(
      attempt((ops, params, images) => dinoV2Features(ops, scope(ops, params), smallDino, images, [3]), [1, 3, 12, 12]),
    ).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});

/** What fixtures/make_fixtures.py keeps of a map [1, channels, height, width]. */
function everySixteenthChannel({ shape, data }: HostTensor): HostTensor {
  const [, channels = 1, height = 1, width = 1] = shape;
  const kept = data.filter((_, index) => Math.floor(index / (height * width)) % 16 === 0);
  return new HostTensor([1, channels / 16, height, width], kept);
}
