import { describe, expect, it } from "vitest";
import { colourName, colourNames, colours, hsvOf, rgbOf, vividHues, type Rgb } from "./colours.js";

describe("colourName", () => {
  it.each(colourNames)("calls the background's %s by its name", (name) => {
    const [red, green, blue] = colours[name];
    expect(colourName(red, green, blue)).toBe(name);
  });

  it.each(Object.entries(vividHues))("calls vivid %s so, light and dark", (name, hue) => {
    for (const [saturation, value] of [
      [0.65, 250],
      [0.95, 190],
    ] as const) {
      expect(colourName(...rgbOf(hue, saturation, value))).toBe(name);
    }
  });

  it("has no name for cream and skin", () => {
    expect(colourName(250, 225, 190)).toBeUndefined();
  });
});

describe("hsvOf", () => {
  it("is what rgbOf inverts", () => {
    for (const rgb of Object.values(colours)) {
      const back = rgbOf(...hsvOf(...(rgb as Rgb)));
      back.forEach((value, channel) => expect(value).toBeCloseTo(rgb[channel]!, 9));
    }
  });

  it("has the values of the colour wheel", () => {
    expect(hsvOf(255, 0, 0)).toEqual([0, 1, 255]);
    expect(hsvOf(0, 128, 0)).toEqual([120, 1, 128]);
    expect(hsvOf(0, 0, 1)).toEqual([240, 1, 1]);
    expect(hsvOf(90, 90, 90)).toEqual([0, 0, 90]);
  });
});
