import {
  HostTensor,
  declareParameters,
  initialize,
  random,
  scope,
  type ParameterSpec,
  type Program,
  type TensorMap,
} from "@sdxs/tensor";
import { listShapes, maxAbsError, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { beforeAll, describe, expect, it } from "vitest";
import { patchDiscriminator, projectedDiscriminator } from "../discriminators.js";

// The layers in float64, written out for one sample: maps are lists of channels, channels lists of rows.
type Map = number[][][];

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

function convolve(map: Map, params: TensorMap<HostTensor>, name: string, stride = 1): Map {
  const { shape, data } = params[`${name}.weight`]!;
  const [outputs = 1, inputs = 1, kernel = 1] = shape;
  const padding = Math.floor((kernel - 1) / 2);
  const size = (length: number): number => Math.floor((length + 2 * padding - kernel) / stride) + 1;
  const range = (length: number): number[] => Array.from({ length }, (_, i) => i);
  const taps = range(inputs * kernel * kernel).map((i) => [
    Math.floor(i / kernel ** 2),
    Math.floor(i / kernel) % kernel,
    i % kernel,
  ]);
  return range(outputs).map((o) =>
    range(size(map[0]!.length)).map((y) =>
      range(size(map[0]![0]!.length)).map((x) => {
        const at = (c = 0, dy = 0, dx = 0): number =>
          map[c]![y * stride + dy - padding]?.[x * stride + dx - padding] ?? 0;
        const products = taps.map((tap, i) => at(...tap) * data[o * taps.length + i]!);
        return sum(products) + params[`${name}.bias`]!.data[o]!;
      }),
    ),
  );
}

/** Over 8 groups, each with the mean and variance of its own. */
function groupNormalize(map: Map, params: TensorMap<HostTensor>, name: string): Map {
  const perGroup = map.length / 8;
  return map.map((rows, channel) => {
    const first = channel - (channel % perGroup);
    const values = map.slice(first, first + perGroup).flat(2);
    const mean = sum(values) / values.length;
    const deviation = Math.sqrt(sum(values.map((value) => (value - mean) ** 2)) / values.length + 1e-5);
    const [weight, bias] = ["weight", "bias"].map((part) => params[`${name}.${part}`]!.data[channel]!);
    return rows.map((row) => row.map((value) => ((value - mean) / deviation) * weight! + bias!));
  });
}

const mapValues = (map: Map, f: (value: number, c: number, y: number, x: number) => number): Map =>
  map.map((rows, c) => rows.map((row, y) => row.map((value, x) => f(value, c, y, x))));
const activate = (map: Map): Map => mapValues(map, (value) => (value > 0 ? value : 0.2 * value));

/** The samples of [batch, channels, height, width]. */
function samplesOf({ shape, data }: HostTensor): Map[] {
  const chunk = <V>(values: readonly V[], size = 1): V[][] =>
    Array.from({ length: values.length / size }, (_, i) => values.slice(i * size, (i + 1) * size));
  return chunk(chunk(chunk(Array.from(data), shape[3]), shape[2]), shape[1]);
}

/** Parameters of which no bias is 0 and no weight of a norm 1. */
function perturbed(specs: Record<string, ParameterSpec>): Record<string, HostTensor> {
  return Object.fromEntries(
    Object.entries(initialize(specs, 1)).map(([name, { shape, data }]) => {
      const noise = random(2, name).normal(shape).data;
      return [
        name,
        HostTensor.from(
          shape,
          Array.from(data, (value, i) => value + 0.1 * noise[i]!),
        ),
      ];
    }),
  );
}

describe.each(testBackends)("discriminators on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it("patchDiscriminator is PatchGAN with group norms", async () => {
    const options = { channels: [4, 16] };
    const specs = declareParameters((ops, p, { images }) => patchDiscriminator(ops, p, images, options), {
      images: { shape: [1, 3, 8, 8] },
    });
    expect(listShapes(specs)).toEqual({
      "layers.0.conv.weight": [4, 3, 4, 4],
      "layers.0.conv.bias": [4],
      "layers.1.conv.weight": [16, 4, 4, 4],
      "layers.1.conv.bias": [16],
      "layers.1.norm.weight": [16],
      "layers.1.norm.bias": [16],
      "conv_out.weight": [1, 16, 3, 3],
      "conv_out.bias": [1],
    });
    const params = perturbed(specs);
    const images = random(3).uniform([2, 3, 8, 12]);
    const expected = samplesOf(images).map((image) => {
      const first = activate(convolve(image, params, "layers.0.conv", 2));
      const second = activate(groupNormalize(convolve(first, params, "layers.1.conv", 2), params, "layers.1.norm"));
      return convolve(second, params, "conv_out");
    });
    const program: Program<"images", "logits"> = (ops, params, { images }) => ({
      logits: patchDiscriminator(ops, scope(ops, params), images, options),
    });
    const { logits } = await run(program, params, { images });
    expect(maxAbsError(logits, HostTensor.from([2, 1, 2, 3], expected.flat(3)))).toBeLessThan(1e-5);
  });

  it("projectedDiscriminator joins the logits of a head per map", async () => {
    const options = { channels: 16 };
    const maps = { first: random(4).normal([2, 6, 4, 3]), second: random(5).normal([2, 10, 2, 2]) };
    const specs = declareParameters(
      (ops, p, { first, second }) => projectedDiscriminator(ops, p, [first, second], options),
      maps,
    );
    expect(Object.keys(specs)).toHaveLength(20);
    expect(specs["heads.1.project.conv.weight"]?.shape).toEqual([16, 10, 1, 1]);
    expect(specs["heads.1.residual.conv.weight"]?.shape).toEqual([16, 16, 3, 3]);
    expect(specs["heads.1.logits.weight"]?.shape).toEqual([1, 16, 1, 1]);
    const params = perturbed(specs);
    const layer = (map: Map, name: string): Map =>
      activate(groupNormalize(convolve(map, params, `${name}.conv`), params, `${name}.norm`));
    const head = (map: Map, index: number): number[] => {
      const projected = layer(map, `heads.${index}.project`);
      const residual = layer(projected, `heads.${index}.residual`);
      const h = mapValues(projected, (value, c, y, x) => (value + residual[c]![y]![x]!) / Math.SQRT2);
      return convolve(h, params, `heads.${index}.logits`).flat(2);
    };
    const [first, second] = [samplesOf(maps.first), samplesOf(maps.second)];
    const expected = [0, 1].flatMap((sample) => [...head(first[sample]!, 0), ...head(second[sample]!, 1)]);
    const program: Program<"first" | "second", "logits"> = (ops, params, { first, second }) => ({
      logits: projectedDiscriminator(ops, scope(ops, params), [first, second], options),
    });
    const { logits } = await run(program, params, maps);
    expect(maxAbsError(logits, HostTensor.from([2, 16], expected))).toBeLessThan(1e-5);
  });
});

describe("discriminators", () => {
  const invalid = expect.objectContaining({ code: "INVALID_ARGUMENT" });

  it("refuse channels that cannot be grouped, and no maps", () => {
    const images = { images: { shape: [1, 3, 8, 8] } };
    expect(() =>
      declareParameters((ops, p, { images }) => patchDiscriminator(ops, p, images, { channels: [8, 12] }), images),
    ).toThrow(invalid);
    expect(() =>
      declareParameters((ops, p, { images }) => projectedDiscriminator(ops, p, [images], { channels: 4 }), images),
    ).toThrow(invalid);
    expect(() => declareParameters((ops, p) => projectedDiscriminator(ops, p, []), images)).toThrow(invalid);
  });
});
