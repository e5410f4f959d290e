import type { Metrics } from "./training-task.js";

/** The metrics of one step. */
export interface MetricsRow {
  /** Completed steps: 1 for the first row. */
  readonly step: number;
  readonly metrics: Metrics;
}

/** A history of metrics, one row per step: `csvLog` of "@sdxs/training/node" for a file, `memoryLog` for tests and pages. */
export interface MetricsLog {
  append(row: MetricsRow): Promise<void>;
  /** Forgets all rows after `step`, which a resumed training is about to repeat. */
  truncate(step: number): Promise<void>;
  rows(): Promise<readonly MetricsRow[]>;
}

/** A history in memory. */
export function memoryLog(): MetricsLog {
  let rows: MetricsRow[] = [];
  return {
    async append(row) {
      rows.push(row);
    },
    async truncate(step) {
      rows = rows.filter((row) => row.step <= step);
    },
    async rows() {
      return [...rows];
    },
  };
}
