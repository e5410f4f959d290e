/** Names of colours in captions, and when they are true. */

/** sRGB bytes. */
export type Rgb = readonly [red: number, green: number, blue: number];

/** Backgrounds and inks. Chosen: far apart from each other. */
export const colours = {
  white: [252, 252, 252],
  red: [222, 52, 50],
  orange: [246, 146, 40],
  yellow: [252, 222, 72],
  green: [72, 172, 88],
  blue: [62, 122, 226],
  purple: [136, 80, 188],
  pink: [250, 165, 202],
  gray: [146, 150, 156],
  black: [24, 24, 28],
  brown: [126, 80, 48],
} as const satisfies Record<string, Rgb>;
export type ColourName = keyof typeof colours;
export const colourNames = Object.keys(colours) as readonly ColourName[];

/** Hues in degrees of what keeps its name at any shade that a vivid picture has. */
export const vividHues = { red: 0, orange: 30, yellow: 52, green: 125, blue: 220, purple: 278 } as const;
export type VividName = keyof typeof vividHues;

/** Hue in degrees [0, 360), saturation and value in [0, 1]: HSV. The colour's scale may be any: `value` is in its unit. */
export function hsvOf(red: number, green: number, blue: number): [hue: number, saturation: number, value: number] {
  const value = Math.max(red, green, blue);
  const chroma = value - Math.min(red, green, blue);
  if (chroma === 0) return [0, 0, value];
  const sixth =
    value === red
      ? ((green - blue) / chroma + 6) % 6
      : value === green
        ? (blue - red) / chroma + 2
        : (red - green) / chroma + 4;
  return [60 * sixth, chroma / value, value];
}

/** The inverse of `hsvOf`. */
export function rgbOf(hue: number, saturation: number, value: number): [red: number, green: number, blue: number] {
  const channel = (shift: number): number => {
    const sixth = (shift + hue / 60) % 6;
    return value * (1 - saturation * Math.max(0, Math.min(sixth, 4 - sixth, 1)));
  };
  return [channel(5), channel(3), channel(1)];
}

/**
 * The name of a colour, sRGB bytes; undefined between names, as of cream and skin. The limits are chosen by eye, so that
 * each name's core is inside.
 */
export function colourName(red: number, green: number, blue: number): ColourName | undefined {
  const [hue, saturation, value] = hsvOf(red / 255, green / 255, blue / 255);
  if (value < 0.24) return "black";
  if (saturation < 0.14) return value > 0.88 ? "white" : "gray";
  if (saturation < 0.24 && value < 0.6) return "gray";
  if (saturation < 0.3 && hue >= 168 && hue < 296) return "gray";
  if (hue < 14 || hue >= 346) {
    if (value < (hue < 180 ? 0.68 : 0.45)) return "brown";
    return saturation > 0.6 ? "red" : hue < 180 ? undefined : "pink";
  }
  if (hue < 48 && (value < 0.68 || (value < 0.8 && saturation < 0.55))) return "brown";
  if (hue < 41) return saturation > 0.6 ? "orange" : undefined;
  if (hue < 68) return saturation > 0.4 ? "yellow" : undefined;
  if (hue < 168) return "green";
  if (hue < 254) return "blue";
  if (hue < 296) return "purple";
  return value < 0.6 ? "purple" : "pink";
}
