import { access, constants, mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { InvalidArgumentError, MalformedFileError, SdxsError } from "@sdxs/tensor";
import { readSafetensorsFile, writeSafetensorsFile } from "@sdxs/tensor/node";
import type { Checkpoint, CheckpointStore } from "./checkpoint-store.js";
import { checksum } from "./checksum.js";
import { stepFileName, stepFiles } from "./step-files.js";

export interface FileCheckpointOptions {
  /** How many checkpoints stay, at least 1. Default 2: one to fall back on where the newest is damaged. */
  readonly keep?: number;
  /** Called for a checkpoint that cannot be used, before an older one is tried. Default: `process.emitWarning`. */
  readonly onDamaged?: (path: string, error: unknown) => void;
}

/**
 * Checkpoints as safetensors files in a directory of their own, "step-000000100.safetensors", written by one process.
 *
 * A file appears under its name only once all of it is on the disk, and carries a checksum of its content, so the
 * process may be killed at any moment. A damaged file is reported and the one before it is used; it is deleted after
 * the next save. The directory is created if it is missing.
 *
 * @throws SdxsError with code FILE_FAILURE where the directory cannot be written or the disk is full: checkpoints that
 * were there stay. MalformedFileError where there are checkpoints but all are damaged.
 *
 * @example
 * await train(task, { checkpoints: fileCheckpoints("run/checkpoints"), checkpointEverySteps: 500 });
 */
export function fileCheckpoints(directory: string, options: FileCheckpointOptions = {}): CheckpointStore {
  const { keep = 2, onDamaged = warn } = options;
  if (!Number.isInteger(keep) || keep < 1) {
    throw new InvalidArgumentError(`fileCheckpoints: keep must be a whole number of at least 1, got ${keep}.`);
  }
  const damaged = new Set<string>();

  /** Names of usable checkpoints, newest first. */
  const candidates = async (): Promise<string[]> =>
    stepFiles(await readdir(directory), "safetensors").filter((name) => !damaged.has(name));

  return {
    async save({ step, state, metadata }) {
      await prepare(directory);
      const name = stepFileName(step, "safetensors");
      await writeSafetensorsFile(join(directory, name), state, {
        metadata: { ...metadata, step: String(step), checksum: checksum(`step ${step}`, state) },
      });
      damaged.delete(name);
      const superseded = [...(await candidates()).slice(keep), ...damaged, ...(await leftovers(directory))];
      for (const old of superseded) await rm(join(directory, old), { force: true });
      damaged.clear();
    },

    async newest() {
      await prepare(directory);
      const names = await candidates();
      for (const name of names) {
        const path = join(directory, name);
        try {
          return await read(path);
        } catch (error) {
          damaged.add(name);
          onDamaged(path, error);
        }
      }
      if (names.length === 0) return undefined;
      throw new MalformedFileError(
        `fileCheckpoints: all ${names.length} checkpoints in ${directory} are damaged (${names.join(", ")}). ` +
          `Restore one from a backup, or remove them to start over.`,
      );
    },
  };
}

function warn(path: string, error: unknown): void {
  const reason = error instanceof Error ? error.message : String(error);
  process.emitWarning(`The checkpoint ${path} is damaged; an older one is tried. ${reason}`, "SdxsWarning");
}

/** Incomplete checkpoints of killed processes. */
async function leftovers(directory: string): Promise<string[]> {
  return (await readdir(directory)).filter((name) => /^\.step-\d{9,}\.safetensors\..*partial$/.test(name));
}

/** Creates the directory and finds out, before any training, whether it can be written. */
async function prepare(directory: string): Promise<void> {
  try {
    await mkdir(directory, { recursive: true });
    await access(directory, constants.W_OK);
  } catch (cause) {
    throw new SdxsError(
      "FILE_FAILURE",
      `fileCheckpoints: cannot write to the directory ${directory}. Check its permissions, or choose another one.`,
      { cause },
    );
  }
}

async function read(path: string): Promise<Checkpoint> {
  const { tensors, metadata } = await readSafetensorsFile(path);
  const { step: stepText, checksum: expected, ...rest } = metadata;
  const step = Number(stepText);
  if (!Number.isInteger(step) || checksum(`step ${step}`, tensors) !== expected) {
    throw new MalformedFileError(`${path}: the checksum in its metadata is not that of its content.`);
  }
  return { step, state: tensors, metadata: rest };
}
