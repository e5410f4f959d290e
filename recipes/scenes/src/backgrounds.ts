/** What is behind the things of a scene: plain colours, patterns and places, each with phrases that are true of it. */
import { fill, mix, paint, paintDisc, type Canvas } from "./canvas.js";
import { colourNames, colours, type ColourName, type Rgb } from "./colours.js";
import type { Draws } from "./draws.js";
import { withArticle } from "./english.js";

export interface Background {
  readonly kind: BackgroundKind;
  /** What a caption says of it after the things: "on a beach". At least one, the usual one first. */
  readonly phrases: readonly string[];
  /** What a caption says of it alone, without things: "a beach". */
  readonly subject: string;
  /** What it is coloured, if it is nothing else: a thing of that colour would not be seen. */
  readonly colours: readonly ColourName[];
  /** Where things stand: the height of the ground's upper edge from the top, in shares. undefined: they may be anywhere. */
  readonly ground?: number;
}

/** How often each is drawn. Chosen: half places, half colours. */
const frequencies = {
  plain: 12,
  gradient: 4,
  stripes: 4,
  checks: 4,
  dots: 4,
  beach: 3,
  meadow: 3,
  night: 3,
  sea: 2.5,
  underwater: 2,
  snow: 2.5,
  desert: 2.5,
  road: 2.5,
  room: 3,
  forest: 2.5,
  mountains: 2.5,
  sky: 2.5,
  city: 2.5,
} as const;
export type BackgroundKind = keyof typeof frequencies;
export const backgroundKinds = Object.keys(frequencies) as readonly BackgroundKind[];

/** Draws a background onto the canvas, of a kind if it is given. */
export function drawBackground(canvas: Canvas, draws: Draws, kind?: BackgroundKind): Background {
  const drawn = kind ?? draws.pickWeighted(frequencies);
  return { kind: drawn, ...painters[drawn](canvas, draws) };
}

type Painter = (canvas: Canvas, draws: Draws) => Omit<Background, "kind">;

const painters: Readonly<Record<BackgroundKind, Painter>> = {
  plain(canvas, draws) {
    const { name, shade, rgb } = shaded(draws);
    fill(canvas, () => rgb);
    return { ...on(`${shade}${name} background`), colours: [name] };
  },

  gradient(canvas, draws) {
    const [first, second] = differentColours(draws);
    const [a, b] = [jittered(draws, colours[first]), jittered(draws, colours[second])];
    const angle = draws.between(0, Math.PI / 2);
    const [across, down] = [Math.cos(angle), Math.sin(angle)];
    fill(canvas, (x, y) => mix(a, b, (x * across + y * down) / (across + down)));
    return { ...on(`${first} and ${second} gradient`, `${second} and ${first} gradient`), colours: [first, second] };
  },

  stripes(canvas, draws) {
    const [first, second] = differentColours(draws);
    const [a, b] = [jittered(draws, colours[first]), jittered(draws, colours[second])];
    const width = draws.between(0.06, 0.16);
    const angle = draws.pick([0, Math.PI / 2, Math.PI / 4, -Math.PI / 4]);
    const shift = draws.next();
    fill(canvas, () => a);
    paint(canvas, b, (x, y) => width / 4 - wave((x * Math.cos(angle) + y * Math.sin(angle)) / width + shift, width));
    return {
      colours: [first, second],
      subject: `${first} and ${second} stripes`,
      phrases: [
        `on ${first} and ${second} stripes`,
        `on ${second} and ${first} stripes`,
        `on a striped background`,
        `on ${withArticle(first)} and ${second} striped background`,
      ],
    };
  },

  checks(canvas, draws) {
    const [first, second] = differentColours(draws);
    const [a, b] = [jittered(draws, colours[first]), jittered(draws, colours[second])];
    const side = draws.between(0.09, 0.2);
    const [shiftX, shiftY] = [draws.next(), draws.next()];
    fill(canvas, () => a);
    paint(canvas, b, (x, y) => {
      const [toColumn, toRow] = [bands(x / side + shiftX), bands(y / side + shiftY)];
      const inside = toColumn * toRow > 0 ? 1 : -1;
      return -inside * Math.min(Math.abs(toColumn), Math.abs(toRow)) * side;
    });
    return {
      colours: [first, second],
      subject: `${first} and ${second} checks`,
      phrases: [
        `on ${first} and ${second} checks`,
        `on ${second} and ${first} checks`,
        `on a checkered background`,
        `on ${withArticle(first)} and ${second} checkered background`,
      ],
    };
  },

  dots(canvas, draws) {
    const [ground, dot] = differentColours(draws);
    const [a, b] = [jittered(draws, colours[ground]), jittered(draws, colours[dot])];
    const spacing = draws.between(0.13, 0.25);
    const radius = spacing * draws.between(0.22, 0.34);
    const [shiftX, shiftY] = [draws.next(), draws.next()];
    fill(canvas, () => a);
    paint(canvas, b, (x, y) => {
      const row = Math.round(y / spacing + shiftY);
      const column = x / spacing + shiftX + (row % 2) / 2;
      return Math.hypot(column - Math.round(column), y / spacing + shiftY - row) * spacing - radius;
    });
    return {
      colours: [ground, dot],
      subject: `${dot} dots on ${withArticle(ground)} background`,
      phrases: [
        `on ${withArticle(ground)} background with ${dot} dots`,
        `on ${dot} dots`,
        `on a dotted background`,
        `on ${withArticle(ground)} background with dots`,
      ],
    };
  },

  beach(canvas, draws) {
    const horizon = draws.between(0.28, 0.45);
    const shore = horizon + draws.between(0.1, 0.2);
    sky(canvas, jittered(draws, [120, 195, 245]), jittered(draws, [215, 240, 252]), horizon);
    const water = jittered(draws, [45, 145, 205]);
    paint(canvas, water, (_, y) => horizon - y);
    const ripple = hills(draws, 0.015, 2);
    paint(canvas, [240, 250, 252], (x, y) => shore - 0.025 + ripple(x) - y);
    const sand = jittered(draws, [242, 214, 150]);
    paint(canvas, sand, (x, y) => shore + ripple(x) - y);
    speckle(canvas, draws, mix(sand, [150, 110, 60], 0.35), 30, shore + 0.05, 0.006);
    return { ...place("a beach", "on a beach", "on the beach", "at the beach", "on the sand"), ground: shore };
  },

  meadow(canvas, draws) {
    const horizon = draws.between(0.35, 0.55);
    sky(canvas, jittered(draws, [110, 185, 245]), jittered(draws, [205, 232, 250]), horizon + 0.1);
    const far = hills(draws, 0.05, 1.5);
    const near = hills(draws, 0.04, 1.2);
    const green = jittered(draws, [92, 176, 74]);
    paint(canvas, mix(green, [205, 232, 250], 0.3), (x, y) => horizon - 0.03 + far(x) - y);
    paint(canvas, green, (x, y) => horizon + 0.05 + near(x) - y);
    blades(canvas, draws, mix(green, [30, 80, 30], 0.45), 40, horizon + 0.12);
    return {
      ...place("a meadow", "on grass", "on a meadow", "in a meadow", "in a field", "on the grass"),
      ground: horizon + 0.05,
    };
  },

  night(canvas, draws) {
    const top = jittered(
      draws,
      draws.pick([
        [12, 16, 52],
        [20, 12, 48],
        [8, 24, 50],
      ] as const),
    );
    const bottom = mix(top, [70, 60, 130], 0.45);
    fill(canvas, (_, y) => mix(top, bottom, y));
    for (let star = 0; star < 45; star++) {
      paintDisc(
        canvas,
        [255, 250, 225],
        draws.next(),
        draws.next(),
        draws.between(0.003, 0.009),
        draws.between(0.5, 1),
      );
    }
    return place("a night sky", "at night", "in the night sky", "under the stars", "in space");
  },

  sea(canvas, draws) {
    const horizon = draws.between(0.3, 0.5);
    sky(canvas, jittered(draws, [140, 205, 248]), jittered(draws, [222, 242, 252]), horizon);
    const deep = jittered(draws, [28, 92, 170]);
    for (let row = 0; row < 5; row++) {
      const top = horizon + (1 - horizon) * (row / 5) ** 1.3;
      const crest = draws.next();
      const width = 0.06 + 0.05 * row;
      const height = 0.006 + 0.006 * row;
      const line = (x: number, y: number): number =>
        (row === 0 ? horizon : top + height * Math.cos((2 * Math.PI * x) / width / 2 + 6.3 * crest)) - y;
      paint(canvas, mix([86, 170, 222], deep, row / 4), line);
    }
    return { ...place("the sea", "in the sea", "on the sea", "in the ocean", "on the water"), ground: horizon + 0.1 };
  },

  underwater(canvas, draws) {
    const [top, bottom] = [jittered(draws, [70, 190, 220]), jittered(draws, [10, 70, 140])];
    fill(canvas, (_, y) => mix(top, bottom, y));
    for (let ray = 0; ray < 3; ray++) {
      const [start, lean, width] = [draws.between(-0.2, 1), draws.between(0.1, 0.4), draws.between(0.03, 0.08)];
      paint(canvas, [200, 240, 250], (x, y) => Math.abs(x - start - lean * y) - width * (0.4 + y), 0.16);
    }
    for (let bubble = 0; bubble < 14; bubble++) {
      const [x, y, radius] = [draws.next(), draws.next(), draws.between(0.008, 0.024)];
      paintDisc(canvas, [215, 245, 252], x, y, radius, 0.55);
      paintDisc(canvas, mix(top, bottom, y), x, y, radius * 0.6, 0.55);
    }
    return place("the deep sea", "under water", "underwater", "deep in the sea");
  },

  snow(canvas, draws) {
    const horizon = draws.between(0.4, 0.6);
    sky(canvas, jittered(draws, [150, 185, 220]), jittered(draws, [214, 228, 240]), horizon + 0.1);
    const far = hills(draws, 0.06, 1.5);
    const near = hills(draws, 0.04, 1);
    paint(canvas, [226, 236, 246], (x, y) => horizon - 0.04 + far(x) - y);
    paint(canvas, [250, 252, 254], (x, y) => horizon + 0.06 + near(x) - y);
    for (let flake = 0; flake < 40; flake++) {
      paintDisc(canvas, [255, 255, 255], draws.next(), draws.next(), draws.between(0.006, 0.014), 0.95);
    }
    return { ...place("snow", "in the snow", "in snow", "in winter", "on snow"), ground: horizon + 0.06 };
  },

  desert(canvas, draws) {
    const horizon = draws.between(0.35, 0.55);
    sky(canvas, jittered(draws, [250, 196, 120]), jittered(draws, [254, 232, 190]), horizon + 0.1);
    const sand = jittered(draws, [226, 168, 92]);
    for (const [row, darkness] of [0.25, 0, 0.12].entries()) {
      const dune = hills(draws, 0.06, 1.3);
      paint(canvas, mix(sand, [120, 70, 30], darkness), (x, y) => horizon + 0.13 * row + dune(x) - y);
    }
    return { ...place("a desert", "in a desert", "in the desert", "on a dune"), ground: horizon + 0.1 };
  },

  road(canvas, draws) {
    const horizon = draws.between(0.4, 0.55);
    const edge = draws.between(0.6, 0.68);
    sky(canvas, jittered(draws, [150, 200, 240]), jittered(draws, [220, 236, 248]), horizon);
    paint(canvas, jittered(draws, [120, 180, 90]), (_, y) => horizon - y);
    paint(canvas, [225, 225, 220], (_, y) => edge - 0.025 - y);
    paint(canvas, jittered(draws, [92, 94, 100]), (_, y) => edge - y);
    const [middle, shift, dash] = [(edge + 1) / 2, draws.next(), draws.between(0.2, 0.3)];
    paint(canvas, [244, 240, 225], (x, y) =>
      Math.max(
        Math.abs(y - middle) - 0.012,
        Math.abs(x / dash + shift - Math.round(x / dash + shift)) * dash - 0.3 * dash,
      ),
    );
    return { ...place("a road", "on a road", "on the road", "on a street", "in the street"), ground: edge };
  },

  room(canvas, draws) {
    const floor = draws.between(0.6, 0.74);
    const wall = jittered(
      draws,
      draws.pick<Rgb>([
        [236, 220, 190],
        [190, 214, 222],
        [222, 196, 200],
        [200, 216, 186],
        [232, 230, 226],
      ]),
    );
    const wood = jittered(
      draws,
      draws.pick<Rgb>([
        [176, 122, 72],
        [140, 92, 56],
        [204, 160, 110],
      ]),
    );
    fill(canvas, () => wall);
    paint(canvas, wood, (_, y) => floor - y);
    const [plank, shift] = [draws.between(0.09, 0.13), draws.next()];
    paint(canvas, mix(wood, [40, 20, 10], 0.3), (x, y) => {
      // Lines that meet at a point behind the wall.
      const column = (((x - 0.5) / (y - floor + 0.5)) * 0.5) / plank + shift;
      return Math.max(floor - y, Math.abs(column - Math.round(column)) * plank * (0.5 + y) - 0.004);
    });
    paint(canvas, [250, 248, 244], (_, y) => Math.abs(y - floor + 0.018) - 0.018);
    return { ...place("a room", "in a room", "indoors", "at home", "on the floor"), ground: floor };
  },

  forest(canvas, draws) {
    const floor = draws.between(0.62, 0.74);
    sky(canvas, jittered(draws, [150, 200, 150]), jittered(draws, [205, 230, 180]), floor);
    for (const [depth, count] of [7, 4].entries()) {
      const trunk = mix([130, 110, 85], [84, 58, 38], depth);
      const crown = jittered(draws, mix([84, 140, 84], [38, 98, 50], depth));
      for (let tree = 0; tree < count; tree++) {
        const [x, width, top] = [draws.next(), draws.between(0.015, 0.028) * (1 + depth), draws.between(0.12, 0.3)];
        paint(canvas, trunk, (px, py) => Math.max(Math.abs(px - x) - width, py - floor - 0.03, top - py));
        for (let leaf = 0; leaf < 3; leaf++) {
          paintDisc(
            canvas,
            crown,
            x + draws.between(-0.08, 0.08),
            top + draws.between(-0.12, 0.06),
            draws.between(0.08, 0.14),
          );
        }
      }
    }
    const hill = hills(draws, 0.02, 1.5);
    paint(canvas, jittered(draws, [78, 118, 58]), (x, y) => floor + hill(x) - y);
    return { ...place("a forest", "in a forest", "in the forest", "in the woods"), ground: floor };
  },

  mountains(canvas, draws) {
    const base = draws.between(0.66, 0.76);
    sky(canvas, jittered(draws, [120, 180, 235]), jittered(draws, [225, 238, 250]), base);
    const rock = jittered(draws, [120, 130, 150]);
    for (const [range, colour] of [mix(rock, [225, 238, 250], 0.4), rock].entries()) {
      for (let peak = 0; peak < 3; peak++) {
        const [x, top, slope] = [
          (peak + draws.next()) / 3,
          draws.between(0.18, 0.4) + 0.1 * range,
          draws.between(0.8, 1.3),
        ];
        const side = (px: number, py: number): number => (Math.abs(px - x) * slope + top - py) / Math.hypot(1, slope);
        paint(canvas, colour, side);
        paint(canvas, [248, 250, 253], (px, py) => Math.max(side(px, py), py - top - 0.09 - 0.02 * Math.cos(px * 70)));
      }
    }
    const hill = hills(draws, 0.03, 1.5);
    paint(canvas, jittered(draws, [104, 160, 84]), (x, y) => base + hill(x) - y);
    return { ...place("mountains", "in the mountains", "with mountains behind"), ground: base };
  },

  sky(canvas, draws) {
    sky(canvas, jittered(draws, [82, 160, 238]), jittered(draws, [190, 226, 250]), 1);
    for (let cloud = 0; cloud < 4; cloud++) {
      const [x, y, size] = [draws.next(), draws.next(), draws.between(0.05, 0.09)];
      for (const [shift, rise, share] of [
        [-1.3, 0.25, 0.75],
        [-0.4, -0.25, 1],
        [0.7, 0, 0.9],
        [1.5, 0.3, 0.65],
      ] as const) {
        paintDisc(canvas, [250, 252, 255], x + shift * size, y + rise * size, share * size, 0.9);
      }
    }
    return place("a blue sky", "in the sky", "in a blue sky", "in the clouds", "in the air");
  },

  city(canvas, draws) {
    const street = draws.between(0.72, 0.82);
    const isNight = draws.chance(0.35);
    if (isNight) sky(canvas, [22, 26, 62], [70, 66, 120], street);
    else sky(canvas, jittered(draws, [140, 200, 245]), jittered(draws, [226, 240, 250]), street);
    let left = draws.between(-0.1, 0);
    while (left < 1) {
      const [width, top] = [draws.between(0.12, 0.2), draws.between(0.15, 0.5)];
      const from = left;
      const shadeOfGray = draws.between(0, 0.35);
      const wall = mix(isNight ? [44, 48, 80] : [150, 160, 180], isNight ? [20, 20, 40] : [110, 96, 100], shadeOfGray);
      paint(canvas, wall, (x, y) => Math.max(from - x, x - from - width + 0.012, top - y));
      const light: Rgb = isNight ? [250, 220, 120] : [214, 232, 246];
      const [column, row] = [width / 3.2, 0.085];
      paint(canvas, light, (x, y) => {
        const [u, v] = [(x - from) / column - 0.5, (y - top) / row - 0.5];
        if (Math.round(u) < 0 || Math.round(u) > 2 || Math.round(v) < 0) return 1;
        return Math.max(Math.abs(u - Math.round(u)) * column - 0.012, Math.abs(v - Math.round(v)) * row - 0.02);
      });
      left += width;
    }
    paint(canvas, isNight ? [48, 48, 60] : [128, 128, 134], (_, y) => street - y);
    const phrases = isNight
      ? ["in a city at night", "in the city", "in a city"]
      : ["in a city", "in the city", "in town"];
    return { subject: isNight ? "a city at night" : "a city", phrases, colours: [], ground: street };
  },
};

// ---------------------------------------------------------------------------------------------------------------------
// Words

function on(...names: string[]): Pick<Background, "phrases" | "subject"> {
  return { phrases: names.map((name) => `on ${withArticle(name)}`), subject: withArticle(names[0] ?? "") };
}

function place(subject: string, ...phrases: string[]): Pick<Background, "phrases" | "subject" | "colours"> {
  return { phrases, subject, colours: [] };
}

/** Colours that stay what they are called when they are mixed with white or black. */
const withShades: readonly ColourName[] = ["green", "blue", "purple", "gray"];

/** A colour at random, some of them light or dark. */
function shaded(draws: Draws): { readonly name: ColourName; readonly shade: string; readonly rgb: Rgb } {
  const name = draws.pick(colourNames);
  const rgb = jittered(draws, colours[name]);
  const shade = draws.pick(["", "", "light ", "dark "]);
  if (shade === "" || !withShades.includes(name)) return { name, shade: "", rgb };
  return { name, shade, rgb: shade === "light " ? mix(rgb, [255, 255, 255], 0.5) : mix(rgb, [0, 0, 0], 0.45) };
}

function differentColours(draws: Draws): [ColourName, ColourName] {
  const first = draws.pick(colourNames);
  return [first, draws.pick(colourNames.filter((name) => name !== first))];
}

// ---------------------------------------------------------------------------------------------------------------------
// Shapes

/** Another shade of the same name. */
function jittered(draws: Draws, [red, green, blue]: Rgb): Rgb {
  const shift = (): number => draws.between(-9, 9);
  const light = shift();
  const limit = (value: number): number => Math.max(0, Math.min(255, value));
  return [limit(red + light + shift() / 2), limit(green + light + shift() / 2), limit(blue + light + shift() / 2)];
}

function sky(canvas: Canvas, top: Rgb, bottom: Rgb, horizon: number): void {
  fill(canvas, (_, y) => mix(top, bottom, Math.min(1, y / horizon)));
}

/** A wavy height in [-height, height] of x: two sines. */
function hills(draws: Draws, height: number, waves: number): (x: number) => number {
  const [first, second, share] = [draws.between(0, 6.3), draws.between(0, 6.3), draws.between(0.3, 0.7)];
  return (x) =>
    height * (share * Math.sin(6.28 * waves * x + first) + (1 - share) * Math.sin(6.28 * waves * 1.7 * x + second));
}

/** Distance, in the picture's width, of phase `place` (one period a unit of `width`) from the nearest whole number. */
function wave(place: number, width: number): number {
  return Math.abs(place - Math.round(place)) * width;
}

/** Above 0 in every other unit of `place`, below 0 between: the distance from the nearest change. */
function bands(place: number): number {
  const distance = Math.abs(place - Math.round(place));
  return Math.floor(place) % 2 === 0 ? distance : -distance;
}

/** Small discs below a height. */
function speckle(canvas: Canvas, draws: Draws, colour: Rgb, count: number, top: number, radius: number): void {
  for (let dot = 0; dot < count; dot++) {
    paintDisc(canvas, colour, draws.next(), draws.between(top, 1), radius * draws.between(0.6, 1.2), 0.8);
  }
}

/** Tufts of grass below a height. */
function blades(canvas: Canvas, draws: Draws, colour: Rgb, count: number, top: number): void {
  for (let blade = 0; blade < count; blade++) {
    const [x, y, height] = [draws.next(), draws.between(top, 1), draws.between(0.02, 0.045)];
    for (let step = 0; step < 4; step++)
      paintDisc(canvas, colour, x, y - (height * step) / 4, 0.007 - 0.0014 * step, 0.8);
  }
}
