/**
 * Puts the packets of one read in the order of their sessions, so that those of one session stand back to back.
 *
 * A server's TUN gives the packets of many clients in turn: acknowledgements for ten uploads come one, two, ... ten, one.
 * Neighbours only would make a record of each packet, and each record costs the same work at both ends whatever is in
 * it. The order within a session stays; sessions come in the order of their first packets. Pure.
 */

/** Receives the packet `bytes[start..end)` of a session. */
export type TakePacket<Owner> = (
  owner: Owner,
  bytes: Uint8Array<ArrayBuffer>,
  start: number,
  end: number,
) => void;

const NONE = -1;
/** Up to so many bytes a loop is quicker than a view of them. */
const SMALL_COPY_BYTES = 128;

/** Packets of one read; used again for the next one. */
export class PacketSorter<Owner> {
  readonly #start: Int32Array;
  readonly #end: Int32Array;
  /** The next packet of the same owner, by packet. */
  readonly #next: Int32Array;
  /** First and last packet, by owner. */
  readonly #first: Int32Array;
  readonly #last: Int32Array;
  readonly #indexes = new Map<Owner, number>();
  readonly #owners: Owner[] = [];
  readonly #scratch: Uint8Array<ArrayBuffer>;
  #packets = 0;
  #bytes = 0;
  /** Whether an owner's packets stand apart. */
  #interleaved = false;
  #latest = NONE;

  /**
   * @param maxPackets most packets of one read
   * @param maxBytes most bytes of one read
   */
  constructor(maxPackets: number, maxBytes: number) {
    this.#start = new Int32Array(maxPackets);
    this.#end = new Int32Array(maxPackets);
    this.#next = new Int32Array(maxPackets);
    this.#first = new Int32Array(maxPackets);
    this.#last = new Int32Array(maxPackets);
    this.#scratch = new Uint8Array(maxBytes);
  }

  /** Whether {@link add} has room for another packet of `bytes`; if not, {@link drain} comes first. */
  hasRoom(bytes: number): boolean {
    return this.#packets < this.#start.length && this.#bytes + bytes <= this.#scratch.length;
  }

  /** Adds the packet at `[start..end)` of the buffer that {@link drain} will be given. */
  add(owner: Owner, start: number, end: number): void {
    const packet = this.#packets++;
    this.#bytes += end - start;
    this.#start[packet] = start;
    this.#end[packet] = end;
    this.#next[packet] = NONE;
    let index = this.#indexes.get(owner) ?? NONE;
    if (index === NONE) {
      index = this.#owners.length;
      this.#owners.push(owner);
      this.#indexes.set(owner, index);
      this.#first[index] = packet;
    } else {
      if (index !== this.#latest) this.#interleaved = true;
      this.#next[this.#last[index]!] = packet;
    }
    this.#last[index] = packet;
    this.#latest = index;
  }

  /** Hands on all packets of `bytes` and forgets them. They may be looked at until the next call. */
  drain(bytes: Uint8Array<ArrayBuffer>, take: TakePacket<Owner>): void {
    if (!this.#interleaved) this.#inPlace(bytes, take);
    else this.#together(bytes, take);
    this.#owners.length = 0;
    this.#indexes.clear();
    this.#packets = 0;
    this.#bytes = 0;
    this.#interleaved = false;
    this.#latest = NONE;
  }

  /** Packets of each owner stand together already. */
  #inPlace(bytes: Uint8Array<ArrayBuffer>, take: TakePacket<Owner>): void {
    for (let index = 0; index < this.#owners.length; index++) {
      for (let packet = this.#first[index]!; packet !== NONE; packet = this.#next[packet]!)
        take(this.#owners[index]!, bytes, this.#start[packet]!, this.#end[packet]!);
    }
  }

  /** Copies what stands apart to one place; an owner's only packet stays where it is. */
  #together(bytes: Uint8Array<ArrayBuffer>, take: TakePacket<Owner>): void {
    // not from its beginning for each owner: what was handed on is looked at until all is
    let at = 0;
    for (let index = 0; index < this.#owners.length; index++) {
      const owner = this.#owners[index]!;
      const first = this.#first[index]!;
      if (this.#next[first] === NONE) take(owner, bytes, this.#start[first]!, this.#end[first]!);
      else {
        for (let packet = first; packet !== NONE; packet = this.#next[packet]!) {
          const end = at + this.#copy(bytes, packet, at);
          take(owner, this.#scratch, at, end);
          at = end;
        }
      }
    }
  }

  /** @returns bytes of the packet */
  #copy(bytes: Uint8Array<ArrayBuffer>, packet: number, at: number): number {
    const start = this.#start[packet]!;
    const length = this.#end[packet]! - start;
    const scratch = this.#scratch;
    if (length > SMALL_COPY_BYTES) scratch.set(bytes.subarray(start, start + length), at);
    else for (let i = 0; i < length; i++) scratch[at + i] = bytes[start + i]!;
    return length;
  }
}
