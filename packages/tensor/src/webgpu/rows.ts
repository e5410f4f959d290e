import type { Node } from "../graph/node.js";
import { sizeOf } from "../host-tensor.js";
import { Shader, type Surroundings } from "./shader.js";
import { contiguous, merged, placeOf, type Layout } from "./view.js";
import { gridOf, workgroupNumber, type Kernel } from "./kernel.js";

/** Rows of at most so many elements are one thread's each: chosen. */
const SHORT = 16;

/** Threads to a row, by its length: chosen. */
const threadsFor = (length: number, limit: number): number =>
  length <= SHORT ? 1 : length <= 128 ? 32 : length <= 1024 ? 128 : length <= 8192 ? 256 : Math.min(1024, limit);

const LOWEST = "-3.4028234e38f";

/** A kernel around a sum, a mean, an extremum, a softmax or a norm: each workgroup computes one row. */
export function rowsKernel(root: Node, anchor: Node, around: Surroundings, maxThreads: number): Kernel {
  const [input] = anchor.inputs as [Node];
  const { shape } = input;
  const axes = axesOf(anchor);
  const { strides } = contiguous(shape);
  const part = (of: (axis: number) => boolean): Layout => ({
    sizes: shape.filter((_, axis) => of(axis)),
    strides: strides.filter((_, axis) => of(axis)),
    offset: 0,
  });
  const inner = part((axis) => axes.includes(axis));
  const outer = part((axis) => !axes.includes(axis));
  const [rows, length] = [sizeOf(outer.sizes), sizeOf(inner.sizes)];
  const threads = threadsFor(length, maxThreads);
  const isShort = threads === 1;
  const shader = new Shader(around);
  const row = shader.name();
  // Each thread a row of its own, or each workgroup.
  const perGroup = isShort ? 64 : threads;
  shader.line(`let ${row} = ${isShort ? `${workgroupNumber} * 64u + thread` : workgroupNumber};`);
  shader.line(`if (${row} >= ${rows}u) { return; }`);
  const base = shader.let(placeOf(outer, row));

  /** Runs through the row's elements: `body(place, position)`. */
  const each = (body: (place: string, position: string) => void): void => {
    const position = shader.name();
    const [from, step] = isShort ? ["0u", "1u"] : ["thread", `${threads}u`];
    shader.block(`for (var ${position} = ${from}; ${position} < ${length}u; ${position} += ${step})`, () => {
      const place = merged(inner).sizes.length === 0 ? base : shader.let(`${base} + ${placeOf(inner, position)}`);
      body(place, position);
    });
  };
  /** One number from all threads'. */
  const together = (value: string, join: (a: string, b: string) => string): string => {
    if (isShort) return value;
    shader.line("workgroupBarrier();");
    shader.line(`shared_values[thread] = ${value};`);
    shader.line("workgroupBarrier();");
    for (let half = threads / 2; half >= 1; half /= 2) {
      const joined = join("shared_values[thread]", `shared_values[thread + ${half}u]`);
      shader.line(`if (thread < ${half}u) { shared_values[thread] = ${joined}; }`);
      shader.line("workgroupBarrier();");
    }
    return shader.let("shared_values[0]");
  };
  const accumulate = (begin: string, join: (a: string, b: string) => string, of: (value: string) => string): string => {
    const total = shader.name();
    shader.line(`var ${total} = ${begin};`);
    each((place) => shader.line(`${total} = ${join(total, of(shader.value(input, place)))};`));
    return together(total, join);
  };
  const plus = (a: string, b: string): string => `${a} + ${b}`;
  const larger = (a: string, b: string): string => `max(${a}, ${b})`;
  if (!isShort) shader.declare(`var<workgroup> shared_values: array<f32, ${threads}>;`);

  /** The one value of the row, and what follows it. */
  const once = (value: string): void => {
    const write = (): void => shader.withAnchor(anchor, row, value, () => shader.store(root, row));
    if (isShort) write();
    else shader.block("if (thread == 0u)", write);
  };
  const perElement = (of: (element: string) => string): void =>
    each((place) => {
      const value = shader.let(of(shader.value(input, place)));
      shader.withAnchor(anchor, place, value, () => shader.store(root, place));
    });
  const inverseStd = (): { readonly mean: string; readonly factor: string } => {
    const mean = shader.let(`${accumulate("0f", plus, (x) => x)} / ${length}f`);
    const squares = accumulate("0f", plus, (x) => `(${x} - ${mean}) * (${x} - ${mean})`);
    const epsilon = anchor.attributes.epsilon ?? 0;
    return { mean, factor: shader.let(`1f / sqrt(${squares} / ${length}f + ${epsilon}f)`) };
  };
  switch (anchor.op) {
    case "sum":
      once(accumulate("0f", plus, (x) => x));
      break;
    case "mean":
      once(shader.let(`${accumulate("0f", plus, (x) => x)} / ${length}f`));
      break;
    case "max":
      once(accumulate(LOWEST, larger, (x) => x));
      break;
    case "softmax": {
      const largest = accumulate(LOWEST, larger, (x) => x);
      const sum = accumulate("0f", plus, (x) => `exp(${x} - ${largest})`);
      perElement((x) => `exp(${x} - ${largest}) / ${sum}`);
      break;
    }
    case "normalize": {
      const { mean, factor } = inverseStd();
      perElement((x) => `(${x} - ${mean}) * ${factor}`);
      break;
    }
    case "inverseStd":
      once(inverseStd().factor);
      break;
    default: {
      // argMax: the first of the largest.
      const largest = accumulate(LOWEST, larger, (x) => x);
      const first = shader.name();
      shader.line(`var ${first} = ${length}f;`);
      each((place, position) =>
        shader.line(`if (${shader.value(input, place)} == ${largest}) { ${first} = min(${first}, f32(${position})); }`),
      );
      once(shader.let(`i32(${together(first, (a, b) => `min(${a}, ${b})`)})`));
    }
  }
  const groups = isShort ? Math.ceil(rows / 64) : rows;
  const code = shader.code(around.storage(root), perGroup, "@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32");
  return { code, groups: gridOf(groups), reads: shader.reads, result: root };
}

function axesOf({ op, attributes: { axes, axis = 0 }, inputs: [input] }: Node): readonly number[] {
  if (axes) return axes;
  return op === "normalize" || op === "inverseStd" ? [input!.shape.length - 1] : [axis];
}
