/** Large enough that it fits above other memory only: chosen. */
const CEILING_BYTES = 2 ** 17;
/** Below this size the call costs more than it saves: chosen. */
const FREED_FROM_BYTES = 2 ** 16;
let nowhere: MessagePort | undefined;
let ceiling: ArrayBuffer | undefined;

/**
 * Frees memory now instead of in a later garbage collection: a training step's gradients are as large as the model. Memory
 * that is transferred to a closed port has no owner, and is freed.
 *
 * A new block above keeps the allocator from returning the memory to the system: the next step would have to request
 * it again, and the system would clear each page, which may take a third of the step's time.
 */
export function freeNow(buffers: readonly ArrayBuffer[]): void {
  if (typeof MessageChannel === "undefined" || buffers.every(({ byteLength }) => byteLength < FREED_FROM_BYTES)) return;
  if (!nowhere) {
    nowhere = new MessageChannel().port1;
    nowhere.close();
  }
  ceiling = new ArrayBuffer(CEILING_BYTES);
  nowhere.postMessage(ceiling.byteLength, [...buffers]);
}
