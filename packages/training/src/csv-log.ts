import { appendFile, mkdir, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { InvalidArgumentError, MalformedFileError } from "@sdxs/tensor";
import { replaceFile } from "@sdxs/tensor/node";
import { fileFailure } from "./file-failure.js";
import type { MetricsLog, MetricsRow } from "./metrics-log.js";

/**
 * A history of metrics as a CSV file: "step" and one column per metric, numbers in full precision, an empty field where
 * a step lacks a metric. A metric that appears later adds a column. A half-written last line is dropped.
 *
 * @throws SdxsError with code FILE_FAILURE where the file cannot be written; MalformedFileError where it is no such CSV.
 *
 * @example
 * await train(task, { log: csvLog("run/metrics.csv") });
 * // step,loss,gradientNorm,learningRate
 * // 1,0.5,1.25,0.001
 */
export function csvLog(path: string): MetricsLog {
  let columns: string[] | undefined;
  const fail = (cause: unknown): never => fileFailure("csvLog", path, cause);

  const replace = async (rows: readonly MetricsRow[]): Promise<void> => {
    columns = [...new Set(rows.flatMap(({ metrics }) => Object.keys(metrics)))];
    checkNames(columns);
    await mkdir(dirname(path), { recursive: true }).catch(fail);
    await replaceFile(path, [rows.length > 0 ? ["step", ...columns].join() + "\n" : "", ...rows.map(line)]);
  };

  const line = ({ step, metrics }: MetricsRow): string =>
    [step, ...(columns ?? []).map((name) => metrics[name] ?? "")].join() + "\n";

  const rows = async (): Promise<MetricsRow[]> => parse(path, await readText(path));

  return {
    rows,
    async append(row) {
      const known = columns;
      if (known !== undefined && Object.keys(row.metrics).every((name) => known.includes(name))) {
        await appendFile(path, line(row)).catch(fail);
      } else {
        await replace([...(await rows()), row]);
      }
    },
    async truncate(step) {
      await replace((await rows()).filter((row) => row.step <= step));
    },
  };
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return "";
    return fileFailure("csvLog", path, cause);
  }
}

function parse(path: string, text: string): MetricsRow[] {
  const [header, ...lines] = text
    .slice(0, text.lastIndexOf("\n") + 1)
    .split("\n")
    .slice(0, -1);
  if (header === undefined) return [];
  const [first, ...names] = header.split(",");
  return lines.map((line, index) => {
    const [step, ...values] = line.split(",");
    if (first !== "step" || values.length !== names.length || !/^\d+$/.test(step ?? "")) {
      throw new MalformedFileError(
        `${path}: line ${index + 2} is not a row of the metrics "${header}". Move the file away to begin a new history.`,
      );
    }
    const metrics = names.map((name, column) => [name, values[column]] as const).filter(([, value]) => value !== "");
    return { step: Number(step), metrics: Object.fromEntries(metrics.map(([name, value]) => [name, Number(value)])) };
  });
}

function checkNames(names: readonly string[]): void {
  const bad = names.find((name) => /[",\r\n]/.test(name) || name === "step");
  if (bad === undefined) return;
  throw new InvalidArgumentError(
    `csvLog: a metric's name must not be "step" and must hold no comma, quote or line break, got ${JSON.stringify(bad)}.`,
  );
}
