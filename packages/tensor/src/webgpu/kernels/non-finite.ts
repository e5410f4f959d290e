/**
 * Functions of WGSL that keep NaN and infinities where WGSL's do not promise to: compilers may assume that floats are finite, so
 * these ask for the bits. Each is declared after those that it calls.
 */
const HELPERS = {
  from_bits: "fn from_bits(bits: u32) -> f32 { return bitcast<f32>(bits); }",
  is_nan: "fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }",
  /** Whether both are numbers, as a comparison that holds needs. */
  are_numbers:
    "fn are_numbers(a: f32, b: f32) -> bool { return max(bitcast<u32>(a) & 0x7fffffffu, bitcast<u32>(b) & 0x7fffffffu) <= 0x7f800000u; }",
  /** f(x), which is given, or x where that is NaN. */
  or_nan: "fn or_nan(x: f32, value: f32) -> f32 { return select(value, x, is_nan(x)); }",
  exponential: "fn exponential(x: f32) -> f32 { return or_nan(x, exp(x)); }",
  larger: "fn larger(a: f32, b: f32) -> f32 { return or_nan(a, or_nan(b, max(a, b))); }",
  smaller: "fn smaller(a: f32, b: f32) -> f32 { return or_nan(a, or_nan(b, min(a, b))); }",
  /** Numbers with the sign bit, down to -Infinity, are 0. */
  relu: "fn relu(x: f32) -> f32 { return select(x, 0f, bitcast<u32>(x) - 0x80000000u <= 0x7f800000u); }",
  /** NaN unless x is finite; compilers make 0 of a product with the constant. */
  times_zero:
    "fn times_zero(x: f32) -> f32 { return select(0f, from_bits(0x7fc00000u), (bitcast<u32>(x) & 0x7fffffffu) >= 0x7f800000u); }",
  logarithm: `fn logarithm(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  let value = select(log(x), from_bits(0xff800000u), (bits & 0x7fffffffu) == 0u);
  return or_nan(x, select(value, from_bits(0x7fc00000u), bits > 0x80000000u));
}`,
  /** For exponents above 0 that are no whole numbers: NaN of what is negative. */
  power: `fn power(x: f32, exponent: f32) -> f32 {
  let bits = bitcast<u32>(x);
  return or_nan(x, select(pow(x, exponent), from_bits(0x7fc00000u), bits > 0x80000000u));
}`,
} as const;

export type Helper = keyof typeof HELPERS;

/** The declarations of functions that a shader calls, with those that these call. */
export function helperDeclarations(used: ReadonlySet<Helper>): readonly string[] {
  const names = Object.keys(HELPERS) as Helper[];
  const needed = new Set(used);
  for (const name of [...names].reverse()) {
    if (!needed.has(name)) continue;
    for (const other of names) if (other !== name && HELPERS[name].includes(`${other}(`)) needed.add(other);
  }
  return names.filter((name) => needed.has(name)).map((name) => HELPERS[name]);
}
