import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";

/** Where a run keeps what it goes on from. */
export interface WorkFolderOptions {
  /** Where results go; a run that was interrupted in it goes on. */
  readonly output: string;
  readonly seed: number;
  /** Forget an earlier run in that folder. */
  readonly restart: boolean;
}

/** One folder for each seed, made if it is not there: a run goes on only where the same one was interrupted. */
export async function openWorkFolder({ output, seed, restart }: WorkFolderOptions): Promise<string> {
  if (restart) await rm(join(output, "work"), { recursive: true, force: true });
  const folder = join(output, "work", `seed-${seed}`);
  await mkdir(folder, { recursive: true });
  return folder;
}
