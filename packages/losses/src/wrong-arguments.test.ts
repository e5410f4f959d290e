import { HostTensor } from "@sdxs/tensor";
import { fromHost, referenceOps as ops } from "@sdxs/tensor/reference";
import { expect, it } from "vitest";
import * as losses from "./index.js";

// What callers in plain JavaScript may give, beyond what types allow.
type Loose = Record<string, (...args: unknown[]) => unknown>;
const call = losses as unknown as Loose;

const tensor = (...shape: number[]) => fromHost(HostTensor.filled(shape, 0.5));
const image = tensor(2, 3, 16, 16);
const channelsLast = tensor(2, 16, 16, 3);
const host = HostTensor.filled([2, 3, 16, 16], 0);
const map = tensor(2, 4, 8);
const perSample = tensor(2);
const level = { alpha: perSample, sigma: perSample };
const INVALID = "INVALID_ARGUMENT";
const SHAPE = "SHAPE_MISMATCH";

const cases: readonly (readonly [
  name: keyof typeof losses,
  args: readonly unknown[],
  code: string,
  message: RegExp,
])[] = [
  ["mse", [image, image], INVALID, /mse: expected operations \(ops\) as the first argument, got an object/],
  ["mse", [ops, image], INVALID, /mse: expected its second tensor to be a tensor of these operations, got nothing/],
  ["mse", [ops, host, host], INVALID, /got a HostTensor\. Give it to the program as an input/],
  ["mse", [ops, [image], [image]], INVALID, /its first tensor .* got a list of 1/],
  ["mse", [ops, image, channelsLast], SHAPE, /\[2, 3, 16, 16\] and \[2, 16, 16, 3\]/],
  ["l1", [ops, image, null], INVALID, /l1: .* got null/],
  ["huber", [ops, image, 0], INVALID, /huber: .* got the number 0/],
  ["huber", [ops, image, image, { delta: -1 }], INVALID, /huber: delta must be above 0, got -1/],
  ["pseudoHuber", [ops, image], INVALID, /pseudoHuber: .* got nothing/],
  ["klDivergence", [ops, { mean: image, logVariance: image }], INVALID, /klDivergence: /],
  ["outputDistillationLoss", [ops, image], INVALID, /outputDistillationLoss: /],
  [
    "denoisingLoss",
    [ops, image, image, { weights: [1, 1] }],
    INVALID,
    /denoisingLoss: expected weights to be a tensor/,
  ],
  ["denoisingLoss", [ops, image, image, { weights: image }], SHAPE, /weights must have one value per sample, \[2\]/],
  ["minSnrWeights", [ops, "epsilon"], INVALID, /expected level to be \{ alpha, sigma \}, got nothing/],
  [
    "minSnrWeights",
    [ops, "eps", level],
    INVALID,
    /prediction must be one of epsilon, v_prediction, sample; got the string "eps"/,
  ],
  [
    "featureMatchingLoss",
    [ops, map, map],
    INVALID,
    /featureMatchingLoss: expected a list of features.* Write \[x\] for one/,
  ],
  ["featureMatchingLoss", [ops, [map], map], INVALID, /expected a list of target features/],
  ["featureMatchingLoss", [ops, [map]], INVALID, /expected a list of target features, .* got nothing/],
  ["featureMatchingLoss", [ops, [map], [map], { weights: 1 }], INVALID, /expected a list of weights/],
  ["featureMatchingLoss", [ops, [map], [map, map]], SHAPE, /got 1, 2 and 1/],
  ["featureMatchingLoss", [ops, [host], [host]], INVALID, /expected feature 0 to be a tensor .* got a HostTensor/],
  ["featureDistillationLoss", [ops, map, map], INVALID, /featureDistillationLoss: expected a list of features/],
  ["perceptualDistance", [ops, map, map], INVALID, /perceptualDistance: expected a list of features/],
  ["featureSimilarity", [ops, [map], [map]], INVALID, /featureSimilarity: .* got a list of 1/],
  [
    "gaussianSsim",
    [ops, image, image],
    INVALID,
    /gaussianSsim: the option dataRange must be above 0, got undefined\. Give \{ dataRange: 2 \}/,
  ],
  ["gaussianSsim", [ops, image, image, 2], INVALID, /dataRange must be above 0, got undefined/],
  ["gaussianSsim", [ops, channelsLast, channelsLast, { dataRange: 2 }], SHAPE, /put the channels second/],
  ["gaussianSsimMap", [ops, image, image], INVALID, /dataRange must be above 0/],
  ["multiScaleSsim", [ops, image, image], SHAPE, /multiScaleSsim: 5 scales need sizes/],
  ["multiScaleSsim", [ops, image, image, { weights: [1] }], INVALID, /multiScaleSsim: the option dataRange/],
  ["multiScaleSsim", [ops, channelsLast, channelsLast, { dataRange: 2 }], SHAPE, /put the channels second/],
  ["downsample", [ops, channelsLast, 2], SHAPE, /downsample: .* put the channels second/],
  ["downsample", [ops, tensor(3, 16, 16), 2], SHAPE, /put the batch first/],
  ["downsample", [ops, image], INVALID, /the factor must be a whole number of at least 1, got undefined/],
  ["downsample", [ops, image, 2, "nearest"], INVALID, /filter must be one of area, .* got the string "nearest"/],
  ["vaeDistillationLoss", [ops, image], INVALID, /vaeDistillationLoss: /],
  ["vaeDistillationLoss", [ops, channelsLast, channelsLast], SHAPE, /put the channels second/],
  ["discriminatorLoss", [ops, image, image], INVALID, /discriminatorLoss: .* got nothing/],
  [
    "discriminatorLoss",
    [ops, "wgan", perSample, perSample],
    INVALID,
    /kind must be one of hinge, .* got the string "wgan"/,
  ],
  ["generatorLoss", [ops, perSample], INVALID, /generatorLoss: expected fakeLogits to be a tensor .* got nothing/],
  ["generatorLoss", [ops, "wgan", perSample], INVALID, /kind must be one of hinge/],
  ["r1Penalty", [ops, image, image], INVALID, /r1Penalty: expected a function of images to logits/],
  ["r1Penalty", [ops, () => perSample], INVALID, /r1Penalty: expected images to be a tensor/],
  [
    "scoreDistillationLoss",
    [ops, image, image, image],
    INVALID,
    /scores to be \{ onlineScore, offlineScore \}, got an object without/,
  ],
  ["scoreDistillationLoss", [ops, image], INVALID, /scoreDistillationLoss: .* got nothing/],
  ["scoreDistillationWeights", [ops, "dmd", level], INVALID, /method must be one of diff-instruct, swiftbrush/],
  ["scoreDistillationWeights", [ops, "diff-instruct"], INVALID, /expected level to be/],
  [
    "distributionMatchingLoss",
    [ops, image, image, image],
    INVALID,
    /predictions to be \{ onlineSample, offlineSample \}/,
  ],
];

it.each(cases)("%s says what was expected (%#)", (name, args, code, message) => {
  expect(() => call[name]!(...args)).toThrow(
    expect.objectContaining({ code, message: expect.stringMatching(message) }),
  );
});

it("every function has a case", () => {
  const tested = new Set<string>(cases.map(([name]) => name));
  expect(Object.keys(losses).filter((name) => !tested.has(name))).toEqual([]);
});
