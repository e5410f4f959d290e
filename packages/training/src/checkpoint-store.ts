import type { HostTensor, TensorMap } from "@sdxs/tensor";

/** Everything that is needed to resume a training. */
export interface Checkpoint {
  /** Completed steps. */
  readonly step: number;
  readonly state: TensorMap<HostTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** A store of checkpoints: `fileCheckpoints` of "@sdxs/training/node" for files, `memoryCheckpoints` for tests and pages. */
export interface CheckpointStore {
  /** When the promise resolves, `newest` gives this checkpoint, whatever stops the process afterwards. */
  save(checkpoint: Checkpoint): Promise<void>;
  /** The valid checkpoint of the highest step, if there is any. */
  newest(): Promise<Checkpoint | undefined>;
}

/** Keeps the newest checkpoint in memory: it does not survive the process. */
export function memoryCheckpoints(): CheckpointStore {
  let newest: Checkpoint | undefined;
  return {
    async save(checkpoint) {
      newest = checkpoint;
    },
    async newest() {
      return newest;
    },
  };
}
