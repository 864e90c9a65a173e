/**
 * Lets the garbage collector of the packet path's thread run seldom: memory that is never touched, but counted.
 *
 * JavaScriptCore collects when about as many bytes were allocated since the last collection as were alive after the last
 * full one (`proportionalHeapSize` in heap/Heap.cpp). A record's output counts with all its bytes, though we give them back
 * at once (`freeBytes`), and hardly anything else is alive: so it collected after every 120 large records, 40 times a second,
 * each time for 1.7 ms (of a processor of 2 GHz). With the ballast that is 8 times a second. The kernel gives pages to what is
 * touched only, so it costs address space and no memory.
 */

/** Some twice of what is alive without it. More would let small records' objects pile up: they do take memory. */
export const GC_BALLAST_BYTES = 16 * 1024 * 1024;

let ballast: ArrayBuffer | null = null;

/** Takes the ballast on; once a thread. @returns bytes that it counts for */
export function takeGcBallast(): number {
  ballast ??= new ArrayBuffer(GC_BALLAST_BYTES);
  return ballast.byteLength;
}
