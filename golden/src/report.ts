import { agrees, type CaseResult, type Comparison } from "@sdxs/tensor/reference-case";

/** Lines that say how a case went on a backend: the worst of each group, then what failed. */
export interface CaseReport {
  readonly ok: boolean;
  readonly lines: readonly string[];
}

/** Further failures of a case are counted only. Chosen: a screen holds those of several cases. */
const MOST_FAILURES = 8;

export function reportCase(name: string, backend: string, result: CaseResult): CaseReport {
  const { comparisons, unchecked, notes = [] } = result;
  const failures = comparisons.filter((comparison) => !agrees(comparison));
  const problems = [
    ...failures.map(describeFailure),
    ...unchecked.map((tensor) => `${tensor}: no check`),
    ...(comparisons.length === 0 ? ["there is nothing to compare"] : []),
  ];
  const shown = problems.slice(0, MOST_FAILURES);
  if (shown.length < problems.length) shown.push(`and ${problems.length - shown.length} more`);
  const ok = problems.length === 0;
  return {
    ok,
    lines: [headline(ok, name, backend, summary(comparisons)), ...[...shown, ...notes].map((line) => `       ${line}`)],
  };
}

/** A case that could not be checked at all. */
export function reportError(name: string, backend: string, message: string): CaseReport {
  return { ok: false, lines: [headline(false, name, backend, message)] };
}

function headline(ok: boolean, name: string, backend: string, text: string): string {
  return `${ok ? "ok  " : "FAIL"}  ${name.padEnd(28)} ${backend.padEnd(9)}  ${text}`.trimEnd();
}

/** "outputs 3.1e-6 of 1.0e-4": of each group the error that is closest to its tolerance, or farthest beyond. */
function summary(comparisons: readonly Comparison[]): string {
  const groups = [...new Set(comparisons.map(({ group }) => group))];
  const parts = groups.map((group) => {
    const members = comparisons.filter((comparison) => comparison.group === group);
    if (members.every(({ tolerance }) => tolerance === 0)) {
      return `${group} ${members.filter(agrees).length}/${members.length} equal`;
    }
    const { error, tolerance } = members.reduce((worst, next) => (share(next) > share(worst) ? next : worst));
    return `${group} ${digits(error)} of ${digits(tolerance)}`;
  });
  return parts.join("  ");
}

const share = ({ error, tolerance }: Comparison): number => (error === 0 ? 0 : error / tolerance);

function describeFailure({ name, error, tolerance, problem }: Comparison): string {
  const size = Number.isFinite(error) ? ` off by ${digits(error)}, at most ${digits(tolerance)};` : "";
  return `${name}:${size} ${(problem ?? "").replaceAll("\n", "\n       ")}`;
}

const digits = (value: number): string => value.toExponential(1);
