import { describe, expect, it } from "vitest";
import { lossCurveSvg, type CurveLabel, type LossCurveOptions } from "./loss-curve.js";

const falling = {
  name: "training",
  values: Array.from({ length: 100 }, (_, index) => ({ step: index + 1, value: 100 / (index + 1) })),
};

/** All labels of an image. */
function labels(series: Parameters<typeof lossCurveSvg>[0], options: LossCurveOptions = {}): CurveLabel[] {
  const seen: CurveLabel[] = [];
  lossCurveSvg(series, { ...options, label: (label) => (seen.push(label), "") });
  return seen;
}

/** Coordinates of the curves' paths: raw and smoothed of each series. */
const curves = (svg: string): [x: number, y: number][][] =>
  [...svg.matchAll(/<path d="([^"]*)" stroke="#[0-9a-f]{6}" stroke-(?:opacity|width="2.5)/g)].map(([, path = ""]) =>
    [...path.matchAll(/([\d.-]+) ([\d.-]+)/g)].map(([, x, y]) => [Number(x), Number(y)]),
  );

describe("lossCurveSvg", () => {
  it("draws each series from the first to the last step, downwards where the loss falls", () => {
    const svg = lossCurveSvg([falling], { width: 600, height: 400, smoothing: 0 });
    expect(svg).toMatch(/^<svg xmlns="http:\/\/www.w3.org\/2000\/svg" width="600" height="400"/);
    const [raw = [], smooth] = curves(svg);
    expect(raw).toHaveLength(100);
    expect(smooth).toEqual(raw);
    expect(raw.at(-1)![0]).toBe(576); // width less the margin of 24
    const y = raw.map(([, position]) => position);
    expect([...y].sort((a, b) => a - b)).toEqual(y);
  });

  it("spaces equal factors equally on a logarithmic axis", () => {
    const values = [1, 10, 100].map((value, step) => ({ step, value }));
    const [raw = []] = curves(lossCurveSvg([{ name: "a", values }], { logScale: true }));
    const [a, b, c] = raw.map(([, y]) => y);
    expect(a! - b!).toBeCloseTo(b! - c!, 0);
  });

  it("labels axes with round numbers", () => {
    const texts = labels([falling], { smoothing: 0 }).map(({ text }) => text);
    expect(texts).toEqual(expect.arrayContaining(["0", "20", "40", "60", "80", "100", "step", "loss"]));
    const logarithmic = labels([{ ...falling, values: falling.values.map((v) => ({ ...v, value: v.value / 1e5 })) }], {
      logScale: true,
    }).map(({ text }) => text);
    expect(logarithmic).toEqual(expect.arrayContaining(["1e-5", "1e-4", "0.001"]));
    const long = { name: "long", values: [0, 2e6].map((step) => ({ step, value: 1 })) };
    expect(labels([long]).map(({ text }) => text)).toEqual(expect.arrayContaining(["1.5M", "500k"]));
  });

  it("names several series in a legend, escaped", () => {
    const svg = lossCurveSvg([falling, { ...falling, name: "a < b & c" }], { title: "x > y" });
    expect(svg).toContain(">training</text>");
    expect(svg).toContain(">a &lt; b &amp; c</text>");
    expect(svg).toContain(">x &gt; y</text>");
    expect(lossCurveSvg([falling])).not.toContain("training");
  });

  it("leaves a gap where a value is not finite and keeps the smoothed line going", () => {
    const values = [3, 3, NaN, 3, 3].map((value, step) => ({ step, value }));
    const svg = lossCurveSvg([{ name: "a", values }]);
    expect(svg.match(/<path d="(M[^"]*)" stroke="#[0-9a-f]{6}" stroke-opacity/)?.[1]?.match(/M/g)).toHaveLength(2);
    expect(curves(svg)[1]).toHaveLength(5);
    expect(svg).not.toContain("NaN");
  });

  it("does not let rare spikes flatten the curve", () => {
    const values = Array.from({ length: 1000 }, (_, step) => ({ step, value: step === 700 ? 1e6 : 1 + step / 1000 }));
    const highest = labels([{ name: "a", values }], { smoothing: 0.5 }).filter(({ anchor }) => anchor === "end");
    expect(Math.max(...highest.map(({ text }) => parseFloat(text)))).toBeLessThan(1e4);
  });

  it("stays small for long histories", () => {
    const values = Array.from({ length: 200_000 }, (_, step) => ({ step, value: Math.abs(Math.sin(step)) + 0.1 }));
    expect(lossCurveSvg([{ name: "a", values }]).length).toBeLessThan(100_000);
  });

  it.each([
    ["no series", []],
    ["an empty series", [{ name: "a", values: [] }]],
    ["one value", [{ name: "a", values: [{ step: 1, value: 2 }] }]],
    ["nothing finite", [{ name: "a", values: [{ step: 1, value: NaN }] }]],
    ["equal values", [{ name: "a", values: [0, 1].map((step) => ({ step, value: 0 })) }]],
  ])("draws a valid image for %s", (_, series) => {
    for (const logScale of [false, true]) {
      const svg = lossCurveSvg(series, { logScale });
      expect(svg).not.toMatch(/NaN|Infinity|undefined/);
      expect(svg).toContain("</svg>");
    }
  });
});
