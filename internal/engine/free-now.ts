/**
 * Moves a buffer's memory to a new buffer that nobody keeps. An old buffer's memory would go with the next collection of
 * the old objects, which may be hours away in an idle process; a new one's goes with the next of the new. Views of the
 * buffer are empty from now on.
 */
export function freeNow(buffer: ArrayBuffer): void {
  structuredClone(buffer, { transfer: [buffer] });
}
