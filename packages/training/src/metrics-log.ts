import type { Metrics } from "./training-task.js";

/** The metrics of one step. */
export interface MetricsRow {
  /** Completed steps: 1 for the first row. */
  readonly step: number;
  readonly metrics: Metrics;
}

/** A sink of a training's metrics, one row per step. */
export interface MetricsSink {
  append(row: MetricsRow): Promise<void>;
  /** Removes all rows after `step`, which a resumed training is about to repeat. */
  truncate(step: number): Promise<void>;
}

/** A sink that can be read: `csvLog` of "@sdxs/training/node" for a file, `memoryLog` for tests and pages. */
export interface MetricsLog extends MetricsSink {
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

/**
 * Several sinks as one.
 *
 * @example
 * await train(task, { log: joinLogs(csvLog("run/metrics.csv"), tensorBoardLog("run/events")) });
 */
export function joinLogs(...sinks: readonly MetricsSink[]): MetricsSink {
  return {
    async append(row) {
      for (const sink of sinks) await sink.append(row);
    },
    async truncate(step) {
      for (const sink of sinks) await sink.truncate(step);
    },
  };
}
