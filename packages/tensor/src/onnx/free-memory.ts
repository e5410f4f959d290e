/** Large enough to find room above other memory only: chosen. */
const CEILING_BYTES = 2 ** 17;
/** The memory of one number and the like is not worth the call: chosen. */
const FREED_FROM_BYTES = 2 ** 16;
let nowhere: MessagePort | undefined;
let ceiling: ArrayBuffer | undefined;

/**
 * Frees memory instead of leaving it to some later garbage collection: a training step's gradients are as large as the
 * model. What is transferred to a closed port belongs to nobody.
 *
 * A new block above keeps the allocator from giving the memory back to the system: the next step would have to ask for
 * it again, and have each of its pages cleared, which may take a third of the step's time.
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
