import { smoother } from "./progress.js";

/** One line of the image. Steps ascend; values that are not finite leave gaps. */
export interface CurveSeries {
  readonly name: string;
  readonly values: readonly { readonly step: number; readonly value: number }[];
}

/** A piece of text: `x` is its start, middle or end as `anchor` says, `y` its baseline, both in pixels. */
export interface CurveLabel {
  readonly text: string;
  readonly x: number;
  readonly y: number;
  readonly anchor: "start" | "middle" | "end";
  /** Font size in pixels. */
  readonly size: number;
  readonly color: string;
}

export interface LossCurveOptions {
  readonly title?: string;
  /** In pixels. Default 960. */
  readonly width?: number;
  /** In pixels. Default 540. */
  readonly height?: number;
  /** What the values are. Default "loss". */
  readonly valueLabel?: string;
  /** Logarithmic values; those of 0 and below leave gaps. Default false. */
  readonly logScale?: boolean;
  /** Share of a series that the smoothed line remembers, in [0, 1]; 0 does not smooth. Default 0.02 (chosen by eye). */
  readonly smoothing?: number;
  /** Writes a label as SVG, for example as outlines where the viewer may have no fonts. Default: `<text>`. */
  readonly label?: (label: CurveLabel) => string;
}

/**
 * Loss curves as an SVG image: for each series a faint line of the values and a strong one of their moving average,
 * with axes, grid and, for more than one series, a legend. The values' axis leaves out the highest 1% if they are
 * spikes that the smoothed lines do not follow.
 *
 * @example
 * const rows = await log.rows();
 * const values = rows.map(({ step, metrics }) => ({ step, value: metrics.loss ?? NaN }));
 * await writeFile("loss.svg", lossCurveSvg([{ name: "loss", values }], { title: "Warm-up", logScale: true }));
 */
export function lossCurveSvg(series: readonly CurveSeries[], options: LossCurveOptions = {}): string {
  const { width = 960, height = 540, valueLabel = "loss", logScale = false, smoothing = 0.02 } = options;
  const label = options.label ?? textElement;
  const frame = { left: 76, right: width - 24, top: options.title === undefined ? 24 : 56, bottom: height - 56 };

  const lines = series.map(({ name, values }, index) => {
    const raw = values.map(({ step, value }) => ({ step, value: logScale && value <= 0 ? NaN : value }));
    return { name, raw, smooth: smoothed(raw, smoothing), color: COLORS[index % COLORS.length] ?? INK };
  });
  const x = stepScale(
    lines.flatMap(({ raw }) => raw.map(({ step }) => step)),
    frame,
  );
  const y = valueScale(lines, frame, logScale);

  const grid = y.ticks.map(({ position }) => horizontal(frame, position, GRID));
  const tickLabels = [
    ...y.ticks.map((tick) => ({ text: tick.text, x: frame.left - 10, y: tick.position + 4, anchor: "end" as const })),
    ...x.ticks.map((tick) => ({ text: tick.text, x: tick.position, y: frame.bottom + 20, anchor: "middle" as const })),
  ].map((tick) => label({ ...tick, size: 12, color: MUTED }));
  const notches = x.ticks.map(({ position }) => `<path d="M${round(position)} ${frame.bottom}v5" stroke="${MUTED}"/>`);
  const names = [
    label({ text: "step", x: (frame.left + frame.right) / 2, y: height - 14, anchor: "middle", size: 13, color: INK }),
    label({ text: valueLabel, x: 16, y: frame.top - 10, anchor: "start", size: 13, color: INK }),
    options.title !== undefined &&
      label({ text: options.title, x: width / 2, y: 28, anchor: "middle", size: 18, color: INK }),
  ];
  const curves = lines.flatMap(({ raw, smooth, color }) => [
    `<path d="${pathOf(raw, x.at, y.at)}" stroke="${color}" stroke-opacity="0.25"/>`,
    `<path d="${pathOf(smooth, x.at, y.at)}" stroke="${color}" stroke-width="2.5"/>`,
  ]);

  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<defs><clipPath id="plot"><rect x="${frame.left}" y="${frame.top}" ` +
      `width="${frame.right - frame.left}" height="${frame.bottom - frame.top}"/></clipPath></defs>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    ...grid,
    horizontal(frame, frame.bottom, MUTED),
    ...notches,
    `<g clip-path="url(#plot)" fill="none" stroke-linejoin="round" stroke-linecap="round">`,
    ...curves,
    `</g>`,
    ...tickLabels,
    ...names.filter((text) => text !== false),
    ...(lines.length > 1 ? legend(lines, frame, label) : []),
    `</svg>`,
    ``,
  ].join("\n");
}

interface Point {
  readonly step: number;
  readonly value: number;
}

interface Frame {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

interface Line {
  readonly name: string;
  readonly raw: readonly Point[];
  readonly smooth: readonly Point[];
  readonly color: string;
}

interface Scale {
  /** Pixels of a value. */
  readonly at: (value: number) => number;
  readonly ticks: readonly { readonly position: number; readonly text: string }[];
}

/** Distinct for colour-blind readers too: M. Okabe and K. Ito, "Color Universal Design", 2008. */
const COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const INK = "#222222";
const MUTED = "#666666";
const GRID = "#e6e6e6";

function smoothed(points: readonly Point[], share: number): Point[] {
  const smooth = smoother(1 - 1 / Math.max(1, share * points.length));
  return points.map(({ step, value }) => ({ step, value: smooth(value) }));
}

function stepScale(steps: readonly number[], frame: Frame): Scale {
  const [low, high] = extent([0, ...steps]);
  const at = (step: number): number => frame.left + ((step - low) / (high - low)) * (frame.right - frame.left);
  const ticks = roundNumbers(low, high, 8).filter((step) => Number.isInteger(step));
  return { at, ticks: ticks.map((step) => ({ position: at(step), text: tickText(step) })) };
}

function valueScale(lines: readonly Line[], frame: Frame, logScale: boolean): Scale {
  const raw = finiteValues(lines.flatMap((line) => line.raw)).sort((a, b) => a - b);
  const trend = finiteValues(lines.flatMap((line) => line.smooth));
  const usual = raw.slice(0, Math.ceil(raw.length * 0.99)); // the highest 1% are spikes, unless the trend goes there
  const map = logScale ? Math.log10 : (value: number) => value;
  const [low, high] = extent([...usual, ...trend].map(map));
  const margin = 0.04 * (high - low); // chosen: lines do not touch the frame
  const [bottom, top] = [low - margin, high + margin];
  const at = (value: number): number =>
    frame.bottom - ((map(value) - bottom) / (top - bottom)) * (frame.bottom - frame.top);
  const ticks = logScale ? logTicks(10 ** bottom, 10 ** top) : roundNumbers(bottom, top, 7);
  return { at, ticks: ticks.map((value) => ({ position: at(value), text: tickText(value) })) };
}

const finiteValues = (points: readonly Point[]): number[] =>
  points.map(({ value }) => value).filter((value) => Number.isFinite(value));

/** Smallest and largest number, moved apart if they are one; [0, 1] if there are none. */
function extent(numbers: readonly number[]): [number, number] {
  if (numbers.length === 0) return [0, 1];
  const low = numbers.reduce((a, b) => Math.min(a, b));
  const high = numbers.reduce((a, b) => Math.max(a, b));
  const apart = Math.abs(low) * 0.1 || 0.5;
  return low < high ? [low, high] : [low - apart, high + apart];
}

/** About `count` multiples of 1, 2 or 5 times a power of ten within [low, high]. */
function roundNumbers(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const spacing = power * ([1, 2, 5].find((multiple) => multiple * power >= rough) ?? 10);
  const first = Math.ceil(low / spacing);
  const last = Math.floor(high / spacing);
  return Array.from({ length: last - first + 1 }, (_, index) => (first + index) * spacing);
}

/** Powers of ten; with 2 and 5 times them if the range is short; plain round numbers if it is shorter still. */
function logTicks(low: number, high: number): number[] {
  const powers: number[] = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) powers.push(10 ** power);
  const multiples = high / low > 1000 ? [1] : [1, 2, 5];
  const ticks = powers
    .flatMap((power) => multiples.map((multiple) => multiple * power))
    .filter((tick) => tick >= low && tick <= high);
  return ticks.length >= 3 ? ticks : roundNumbers(low, high, 5).filter((tick) => tick > 0);
}

/** 0.05, 1e-5, 20k, 1.5M. */
function tickText(value: number): string {
  const size = Math.abs(value);
  const short = (number: number): string => String(Number(number.toPrecision(6))); // sheds 0.30000000000000004
  if (size >= 1e6) return `${short(value / 1e6)}M`;
  if (size >= 1e4) return `${short(value / 1e3)}k`;
  return size > 0 && size < 1e-3 ? Number(value.toPrecision(6)).toExponential() : short(value);
}

/** A path through the points, thinned to the lowest and highest of each pixel column. */
function pathOf(points: readonly Point[], x: Scale["at"], y: Scale["at"]): string {
  let path = "";
  let pen = "M";
  let column: Point[] = [];
  const flush = (): void => {
    for (const { step, value } of extremes(column)) {
      path += `${pen}${round(x(step))} ${round(y(value))}`;
      pen = "L";
    }
    column = [];
  };
  for (const point of points) {
    const [first] = column;
    if (!Number.isFinite(point.value)) {
      flush();
      pen = "M";
    } else {
      if (first !== undefined && Math.floor(x(first.step)) !== Math.floor(x(point.step))) flush();
      column.push(point);
    }
  }
  flush();
  return path;
}

/** The points of the lowest and the highest value, in their order. */
function extremes(points: readonly Point[]): Point[] {
  if (points.length <= 2) return [...points];
  const low = points.reduce((a, b) => (b.value < a.value ? b : a));
  const high = points.reduce((a, b) => (b.value > a.value ? b : a));
  return low.step <= high.step ? [low, high] : [high, low];
}

function horizontal({ left, right }: Frame, position: number, color: string): string {
  return `<path d="M${left} ${round(position)}H${right}" stroke="${color}"/>`;
}

function legend(lines: readonly Line[], frame: Frame, label: (label: CurveLabel) => string): string[] {
  const longest = Math.max(...lines.map(({ name }) => name.length));
  const left = frame.right - 44 - 7.5 * longest; // 7.5: about the width of a letter of size 13
  return lines.flatMap(({ name, color }, index) => {
    const y = frame.top + 18 + 20 * index;
    return [
      `<path d="M${round(left)} ${y}h22" stroke="${color}" stroke-width="3" stroke-linecap="round"/>`,
      label({ text: name, x: left + 32, y: y + 4, anchor: "start", size: 13, color: INK }),
    ];
  });
}

function textElement({ text, x, y, anchor, size, color }: CurveLabel): string {
  return (
    `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}" font-family="sans-serif" font-size="${size}" ` +
    `fill="${color}">${escapeXml(text)}</text>`
  );
}

const escapeXml = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** Tenths of a pixel. */
const round = (pixels: number): number => Math.round(pixels * 10) / 10;
