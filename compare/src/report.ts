/** What became of a case: how far the results are apart, or why there is none. */
export type Outcome =
  | { readonly name: string; readonly pipeline: string; readonly latents: number; readonly images: number }
  | { readonly name: string; readonly pipeline: string; readonly by: "sdxs" | "diffusers"; readonly message: string };

/** Of the largest number of diffusers' result or of 1, whichever is larger. */
export const TOLERANCE = 1e-4;

/** Largest absolute difference, relative to the largest magnitude of `expected` or to 1; Infinity where one is NaN. */
export function difference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  let [largest, scale] = [0, 1];
  for (let i = 0; i < expected.length; i++) {
    const apart = Math.abs(actual[i]! - expected[i]!);
    if (Number.isNaN(apart)) return Infinity;
    largest = Math.max(largest, apart);
    scale = Math.max(scale, Math.abs(expected[i]!));
  }
  return largest / scale;
}

const worst = (outcome: Outcome): number => ("by" in outcome ? 0 : Math.max(outcome.latents, outcome.images));
const figure = (value: number): string => (value === 0 ? "0" : value.toExponential(1));

/** A row for each pipeline, then what is too far apart or was not compared, then the summary. */
export function report(outcomes: readonly Outcome[]): { readonly lines: readonly string[]; readonly ok: boolean } {
  const compared = outcomes.filter((outcome) => "latents" in outcome);
  const over = compared.filter((outcome) => !(worst(outcome) <= TOLERANCE));
  const without = outcomes.filter((outcome) => "by" in outcome);
  const largest = (values: readonly number[]): string => (values.length === 0 ? "-" : figure(Math.max(...values)));
  const rows = [...new Set(outcomes.map(({ pipeline }) => pipeline))].map((pipeline) => {
    const mine = compared.filter((outcome) => outcome.pipeline === pipeline);
    const [latents, images] = [mine.map((outcome) => outcome.latents), mine.map((outcome) => outcome.images)];
    return `| ${pipeline} | ${mine.length} | ${largest(latents)} | ${largest(images)} |`;
  });
  const summary =
    `${compared.length} compared, ${over.length} over ${TOLERANCE}, largest difference ${largest(compared.map(worst))}` +
    (without.length > 0 ? `, ${without.length} not compared` : "");
  const lines = [
    "| pipeline | cases | latents differ by at most | pictures differ by at most |",
    "| --- | --- | --- | --- |",
    ...rows,
    "",
    ...over.map(({ name, latents, images }) => `over: ${name}: latents ${figure(latents)}, pictures ${figure(images)}`),
    ...without.map(({ name, by, message }) => `not compared: ${name}: ${by}: ${message}`),
    summary,
  ];
  return { lines, ok: over.length === 0 && without.length === 0 && compared.length > 0 };
}
