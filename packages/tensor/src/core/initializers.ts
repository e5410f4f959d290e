/** The initial values of a parameter, as plain data; `initialize` makes the numbers from a seed. */
export type Initializer =
  | { readonly kind: "constant"; readonly value: number }
  | { readonly kind: "normal"; readonly std: number }
  /** Uniform in [-bound, bound). */
  | { readonly kind: "uniform"; readonly bound: number };

export const zeros: Initializer = { kind: "constant", value: 0 };
export const ones: Initializer = { kind: "constant", value: 1 };
export const normal = (std: number): Initializer => ({ kind: "normal", std });
export const uniform = (bound: number): Initializer => ({ kind: "uniform", bound });

/** PyTorch's default for weights and biases of linear and convolution layers: U(-1/sqrt(fanIn), 1/sqrt(fanIn)). */
export const fanInUniform = (fanIn: number): Initializer => uniform(1 / Math.sqrt(fanIn));
