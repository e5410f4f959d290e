import type { Node, NodeOf, RowNode } from "../ir/node.js";
import { sizeOf } from "../../core/host-tensor.js";
import { BUILTINS, gridOf, labelOf, nameOf, workgroupNumber, type Kernel, type Scratch } from "./kernel.js";
import { Shader, type Surroundings } from "./shader.js";
import { contiguous, merged, placeOf, type Layout } from "./view.js";

/** Up to this row length, one thread computes a whole row: chosen. */
const SHORT = 16;

/** Elements that a thread keeps in registers instead of reading them again: chosen. */
const KEPT = 8;

/** Norms of fewer rows than this, with more elements than that, are split among workgroups: chosen. */
const FEW_ROWS = 256;
const LONG_ROW = 4096;
const PART = 2048;

const LOWEST = "-3.4028234e38f";

/** Threads to a row, by its length: chosen. */
function threadsFor(length: number, limit: number): number {
  if (length <= SHORT) return 1;
  const most = Math.min(length <= 8192 ? 256 : 1024, limit);
  let threads = 32;
  while (threads < most && threads * 4 < length) threads *= 2;
  return threads;
}

/** A row of the operand, and the threads that compute it. */
interface Rows {
  readonly input: Node;
  readonly inner: Layout;
  readonly outer: Layout;
  readonly count: number;
  readonly length: number;
}

/** Kernels around a sum, a mean, an extremum, a softmax or a norm: each workgroup computes one row, or a part of it. */
export function rowKernels(root: Node, anchor: RowNode, around: Surroundings, maxThreads: number): readonly Kernel[] {
  const rows = rowsOf(anchor);
  const { count, length } = rows;
  const isSplit = count < FEW_ROWS && length > LONG_ROW && length % PART === 0;
  return anchor.op === "normalize" && isSplit
    ? splitNorm(root, anchor, around, rows)
    : [wholeRows(root, anchor, around, rows, maxThreads)];
}

function rowsOf({ inputs: [input], attributes: { axes } }: RowNode): Rows {
  const { sizes, strides } = contiguous(input.shape);
  const part = (of: (axis: number) => boolean): Layout => ({
    sizes: sizes.filter((_, axis) => of(axis)),
    strides: strides.filter((_, axis) => of(axis)),
    offset: 0,
  });
  const inner = part((axis) => axes.includes(axis));
  const outer = part((axis) => !axes.includes(axis));
  return { input, inner, outer, count: sizeOf(outer.sizes), length: sizeOf(inner.sizes) };
}

type Join = (a: string, b: string) => string;
const plus: Join = (a, b) => `${a} + ${b}`;
const smaller: Join = (a, b) => `min(${a}, ${b})`;
/** Of numbers: of NaN and another it may be either. */
const larger: Join = (a, b) => `max(${a}, ${b})`;

/** Reduces a number of each thread of a workgroup to one that all of them have. */
function together(shader: Shader, threads: number, value: string, join: Join): string {
  if (threads === 1) return value;
  shader.line("workgroupBarrier();");
  shader.line(`shared_values[thread] = ${value};`);
  shader.line("workgroupBarrier();");
  for (let half = threads / 2; half >= 1; half /= 2) {
    const joined = join("shared_values[thread]", `shared_values[thread + ${half}u]`);
    shader.line(`if (thread < ${half}u) { shared_values[thread] = ${joined}; }`);
    shader.line("workgroupBarrier();");
  }
  return shader.let("shared_values[0]");
}

const declareShared = (shader: Shader, threads: number): void =>
  shader.declare(`var<workgroup> shared_values: array<f32, ${threads}>;`);

function wholeRows(root: Node, anchor: RowNode, around: Surroundings, rows: Rows, maxThreads: number): Kernel {
  const { input, inner, outer, count, length } = rows;
  const threads = threadsFor(length, maxThreads);
  const isShort = threads === 1;
  const shader = new Shader(around);
  const row = shader.name();
  // Each thread a row of its own, or each workgroup.
  const perGroup = isShort ? 64 : threads;
  shader.line(`let ${row} = ${isShort ? `${workgroupNumber} * 64u + thread` : workgroupNumber};`);
  shader.line(`if (${row} >= ${count}u) { return; }`);
  if (!isShort) declareShared(shader, threads);
  const base = shader.let(placeOf(outer, row));
  const placeAt = (position: string): string =>
    merged(inner).sizes.length === 0 ? base : shader.let(`${base} + ${placeOf(inner, position)}`);

  // The elements, read once and kept, or read again each time.
  const readsOnce = anchor.op === "softmax" || anchor.op === "normalize" || anchor.op === "inverseStd";
  const each = Math.ceil(length / threads);
  const kept = readsOnce && !isShort && each <= KEPT ? Array.from({ length: each }, () => shader.name()) : undefined;
  const isInside = (i: number): boolean => (i + 1) * threads <= length;
  kept?.forEach((name, i) => {
    shader.line(`var ${name} = 0f;`);
    const read = (): void =>
      shader.line(`${name} = ${shader.value(input, placeAt(shader.let(`thread + ${i * threads}u`)))};`);
    if (isInside(i)) read();
    else shader.block(`if (thread + ${i * threads}u < ${length}u)`, read);
  });
  /** Loops over the row's elements. */
  const forEach = (body: (value: string, place: () => string, position: string) => void): void => {
    if (kept) {
      kept.forEach((name, i) => {
        const one = (): void => {
          const position = shader.let(`thread + ${i * threads}u`);
          body(name, () => placeAt(position), position);
        };
        if (isInside(i)) one();
        else shader.block(`if (thread + ${i * threads}u < ${length}u)`, one);
      });
      return;
    }
    const position = shader.name();
    const [from, step] = isShort ? ["0u", "1u"] : ["thread", `${threads}u`];
    shader.block(`for (var ${position} = ${from}; ${position} < ${length}u; ${position} += ${step})`, () => {
      const place = placeAt(position);
      body(shader.value(input, place), () => place, position);
    });
  };
  const accumulate = (begin: string, join: Join, of: (value: string) => string): string => {
    const total = shader.name();
    shader.line(`var ${total} = ${begin};`);
    forEach((value) => shader.line(`${total} = ${join(total, of(value))};`));
    return together(shader, threads, total, join);
  };

  /** The largest element, NaN where one is. */
  const largestOf = (): string =>
    accumulate(
      shader.call("from_bits", "0xff800000u"),
      (a, b) => shader.call("larger", a, b),
      (x) => x,
    );

  /** The value of the row, and its epilogue. */
  const once = (value: string): void => {
    const write = (): void => shader.withAnchor(anchor, row, value, () => shader.store(root, row));
    if (isShort) write();
    else shader.block("if (thread == 0u)", write);
  };
  const perElement = (of: (element: string) => string): void =>
    forEach((element, place) => {
      const [value, index] = [shader.let(of(element)), place()];
      shader.withAnchor(anchor, index, value, () => shader.store(root, index));
    });
  const reduced = (name: NodeOf<"reduction">["attributes"]["function"]): string => {
    switch (name) {
      case "sum":
        return accumulate("0f", plus, (x) => x);
      case "mean":
        return shader.let(`${accumulate("0f", plus, (x) => x)} / ${length}f`);
      case "max":
        return largestOf();
      case "argMax": {
        // The first of the largest, or the first NaN.
        const largest = largestOf();
        const first = shader.name();
        shader.line(`var ${first} = ${length}f;`);
        forEach((value, _place, position) =>
          shader.line(
            `if (${value} == ${largest} || ${shader.call("is_nan", value)}) { ${first} = min(${first}, f32(${position})); }`,
          ),
        );
        return shader.let(`i32(${together(shader, threads, first, smaller)})`);
      }
    }
  };
  const statistics = (epsilon: number): { readonly mean: string; readonly factor: string } => {
    const mean = shader.let(`${accumulate("0f", plus, (x) => x)} / ${length}f`);
    const squares = accumulate("0f", plus, (x) => `(${x} - ${mean}) * (${x} - ${mean})`);
    return { mean, factor: shader.let(`1f / sqrt(${squares} / ${length}f + ${epsilon}f)`) };
  };
  switch (anchor.op) {
    case "reduction":
      once(reduced(anchor.attributes.function));
      break;
    case "softmax": {
      // Whatever the largest of NaN and others is, the NaN reaches the sum.
      const largest = accumulate(LOWEST, larger, (x) => x);
      const power = (x: string): string => shader.call("exponential", `${x} - ${largest}`);
      const sum = accumulate("0f", plus, power);
      perElement((x) => `${power(x)} / ${sum}`);
      break;
    }
    case "normalize": {
      const { mean, factor } = statistics(anchor.attributes.epsilon);
      perElement((x) => `(${x} - ${mean}) * ${factor}`);
      break;
    }
    case "inverseStd":
      once(statistics(anchor.attributes.epsilon).factor);
  }
  return {
    label: `${nameOf(anchor)} for ${labelOf(root)}`,
    code: shader.code(around.storage(root), perGroup, BUILTINS),
    groups: gridOf(isShort ? Math.ceil(count / 64) : count),
    reads: shader.reads,
    result: root,
  };
}

/**
 * A norm of few long rows, as those of groups of channels: a first kernel finds mean and sum of squares of each part of a row,
 * a second one joins them (Chan, Golub and LeVeque 1979) and normalizes.
 */
function splitNorm(root: Node, anchor: NodeOf<"normalize">, around: Surroundings, rows: Rows): readonly Kernel[] {
  const { input, inner, outer, count, length } = rows;
  const parts = length / PART;
  const threads = 256;
  const scratch: Scratch = { scratchBytes: 8 * count * parts };
  const begin = (shader: Shader): { readonly base: string; readonly elements: readonly string[] } => {
    declareShared(shader, threads);
    shader.line(`let part = ${workgroupNumber};`);
    shader.line(`if (part >= ${count * parts}u) { return; }`);
    shader.line(`let row = part / ${parts}u;`);
    const base = shader.let(placeOf(outer, "row"));
    const positions = Array.from({ length: PART / threads }, (_, i) =>
      shader.let(`part % ${parts}u * ${PART}u + ${i * threads}u + thread`),
    );
    return { base, elements: positions.map((position) => shader.let(`${base} + ${placeOf(inner, position)}`)) };
  };
  const first = new Shader(around);
  const values = begin(first).elements.map((place) => first.value(input, place));
  const sum = together(first, threads, first.let(values.join(" + ")), plus);
  const mean = first.let(`${sum} / ${PART}f`);
  const square = (value: string): string => `(${value} - ${mean}) * (${value} - ${mean})`;
  const squares = together(first, threads, first.let(values.map(square).join(" + ")), plus);
  first.line(`if (thread == 0u) { result[part * 2u] = ${mean}; result[part * 2u + 1u] = ${squares}; }`);

  const second = new Shader(around);
  const { elements } = begin(second);
  const known = second.buffer(scratch);
  second.line("var mean = 0f;");
  second.line("var squares = 0f;");
  second.block(`for (var i = row * ${parts}u; i < (row + 1u) * ${parts}u; i++)`, () =>
    second.line(`mean += ${known}[i * 2u] / ${parts}f;`),
  );
  second.block(`for (var i = row * ${parts}u; i < (row + 1u) * ${parts}u; i++)`, () => {
    const apart = second.let(`${known}[i * 2u] - mean`);
    second.line(`squares += ${known}[i * 2u + 1u] + ${PART}f * ${apart} * ${apart};`);
  });
  second.line(`let factor = 1f / sqrt(squares / ${length}f + ${anchor.attributes.epsilon}f);`);
  for (const place of elements) {
    const value = second.let(`(${second.value(input, place)} - mean) * factor`);
    second.withAnchor(anchor, place, value, () => second.store(root, place));
  }
  const groups = gridOf(count * parts);
  return [
    {
      label: `parts of ${nameOf(anchor)} for ${labelOf(root)}`,
      code: first.code("f32", threads, BUILTINS),
      groups,
      reads: first.reads,
      result: scratch,
    },
    {
      label: `${nameOf(anchor)} for ${labelOf(root)}`,
      code: second.code(around.storage(root), threads, BUILTINS),
      groups,
      reads: second.reads,
      result: root,
    },
  ];
}
