/** Properties of an operation that computes each element from those at the same place, for compilers. */
export interface ElementwiseOperation {
  readonly operands: 1 | 2 | 3;
  /** Element type of the result; "operands" is that of the operands that are no condition. */
  readonly result: "float32" | "bool" | "operands";
  /** ONNX operator of the same meaning, opset 18. */
  readonly onnx: string;
  /** Whether it is exact enough in float16 where its operands are float16. */
  readonly float16: boolean;
}

const unary = (onnx: string, float16: boolean) => ({ operands: 1, result: "float32", onnx, float16 }) as const;
const binary = (onnx: string, float16: boolean) => ({ operands: 2, result: "operands", onnx, float16 }) as const;
const comparison = (onnx: string) => ({ operands: 2, result: "bool", onnx, float16: false }) as const;

/** The elementwise operations of the recorded graph and of the kernel graph, operands of binary ones broadcast. */
export const ELEMENTWISE = {
  neg: unary("Neg", true),
  abs: unary("Abs", true),
  sign: unary("Sign", false),
  exp: unary("Exp", false),
  log: unary("Log", false),
  sqrt: unary("Sqrt", false),
  sin: unary("Sin", false),
  cos: unary("Cos", false),
  tanh: unary("Tanh", true),
  sigmoid: unary("Sigmoid", true),
  relu: unary("Relu", true),
  erf: unary("Erf", false),
  floor: unary("Floor", false),
  add: binary("Add", true),
  sub: binary("Sub", true),
  mul: binary("Mul", true),
  div: binary("Div", false),
  maximum: binary("Max", true),
  minimum: binary("Min", true),
  equal: comparison("Equal"),
  greater: comparison("Greater"),
  less: comparison("Less"),
  /** Operands: condition, where it holds, elsewhere. */
  where: { operands: 3, result: "operands", onnx: "Where", float16: true },
} as const satisfies Record<string, ElementwiseOperation>;

export type ElementwiseName = keyof typeof ELEMENTWISE;
type Of<Count extends 1 | 2 | 3> = {
  [Name in ElementwiseName]: (typeof ELEMENTWISE)[Name]["operands"] extends Count ? Name : never;
}[ElementwiseName];
export type UnaryName = Of<1>;
export type BinaryName = Of<2>;

/** A record of the results of `of` for each of them. */
export function forElementwise<Value>(
  of: (name: ElementwiseName, operation: ElementwiseOperation) => Value,
): Readonly<Record<ElementwiseName, Value>> {
  const entries = Object.entries(ELEMENTWISE) as [ElementwiseName, ElementwiseOperation][];
  return Object.fromEntries(entries.map(([name, operation]) => [name, of(name, operation)])) as Record<
    ElementwiseName,
    Value
  >;
}
