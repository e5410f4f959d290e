import * as tf from "@tensorflow/tfjs";
import { expect, it } from "vitest";
import { distil, target } from "./distil.js";

it("distils raw tfjs layers models into a student with the target's mean and deviation", async () => {
  const { mean, variance } = tf.moments(await distil(4000), 0);
  const deviation = tf.sqrt(variance).dataSync();
  // Chosen: a sixth of the larger deviation; the student begins 0.9 from the mean.
  mean.dataSync().forEach((value, axis) => expect(Math.abs(value - target.mean[axis]!)).toBeLessThan(0.1));
  deviation.forEach((value, axis) => expect(Math.abs(value - target.deviation[axis]!)).toBeLessThan(0.1));
});
