/**
 * Host names to addresses by glibc's own threads (getaddrinfo_a(3), netdb.h).
 *
 * Bun's lookup calls getaddrinfo(3) on the threads that also do Web Crypto, as many as there are processors. While a
 * tunnel is down its resolver does not answer, and each such call holds a thread for 5 s or more: two of them on two
 * processors, and no record is sealed or opened any more.
 */

import { FFIType, type Pointer, read } from "bun:ffi";
import { isIP } from "node:net";
import { cString, openLibrary, ptr } from "./libc.ts";

const GAI_NOWAIT = 1;
const EAI_INPROGRESS = -100;
/** Error numbers of glibc under the names that Node gives them. */
const ERROR_CODES: Readonly<Record<number, string>> = {
  [-2]: "ENOTFOUND", // EAI_NONAME
  [-3]: "EAI_AGAIN",
  [-4]: "EAI_FAIL",
  [-5]: "ENOTFOUND", // EAI_NODATA
  [-11]: "EAI_SYSTEM",
};

/** struct gaicb on 64-bit machines: name, service, request, result (pointers), result code, reserved. */
const GAICB_BYTES = 56;
const GAICB_NAME = 0;
const GAICB_REQUEST = 16;
const GAICB_RESULT = 24;
/** struct addrinfo: flags, family, type, protocol, length (32 bits each), then address, name, next (pointers). */
const ADDRINFO_BYTES = 48;
const ADDRINFO_FAMILY = 4;
const ADDRINFO_TYPE = 8;
const ADDRINFO_ADDRESS = 24;
const ADDRINFO_NEXT = 40;
const SOCK_STREAM = 1;
const AF_INET = 2;
const AF_INET6 = 10;
/** The address in struct sockaddr_in and sockaddr_in6. */
const ADDRESS_OFFSET = { [AF_INET]: 4, [AF_INET6]: 8 } as const;

const FIRST_LOOK_MS = 2;
const LAST_LOOK_MS = 50;

const symbols = open();

/** Null where the C library has no such call. */
function open() {
  if (process.platform !== "linux") return null;
  try {
    return openLibrary({
      getaddrinfo_a: {
        args: [FFIType.i32, FFIType.ptr, FFIType.i32, FFIType.ptr],
        returns: FFIType.i32,
      },
      gai_error: { args: [FFIType.ptr], returns: FFIType.i32 },
      freeaddrinfo: { args: [FFIType.ptr], returns: FFIType.void },
    });
  } catch {
    return null; // musl
  }
}

/** Whether {@link lookupApart} can be called. */
export const canLookUpApart = symbols !== null;

/** One question, and the memory that the library's thread looks at: kept here until the thread is done with it. */
class Question {
  static readonly #open = new Set<Question>();
  readonly #name: Uint8Array<ArrayBuffer>;
  readonly #hints = new Uint8Array(ADDRINFO_BYTES);
  readonly #block = new Uint8Array(GAICB_BYTES);
  readonly #list = new BigUint64Array(1);

  constructor(host: string) {
    this.#name = cString(host);
    // one answer an address, not one a kind of socket
    new DataView(this.#hints.buffer).setInt32(ADDRINFO_TYPE, SOCK_STREAM, true);
    const block = new DataView(this.#block.buffer);
    block.setBigUint64(GAICB_NAME, BigInt(ptr(this.#name)), true);
    block.setBigUint64(GAICB_REQUEST, BigInt(ptr(this.#hints)), true);
    this.#list[0] = BigInt(ptr(this.#block));
  }

  /** @returns glibc's error number, 0 when all is well */
  ask({ getaddrinfo_a }: NonNullable<typeof symbols>): number {
    const failure = getaddrinfo_a(GAI_NOWAIT, ptr(this.#list), 1, null);
    if (failure === 0) Question.#open.add(this);
    return failure;
  }

  /** @returns glibc's error number, {@link EAI_INPROGRESS} while the thread is at work */
  look({ gai_error }: NonNullable<typeof symbols>): number {
    const state = gai_error(ptr(this.#block));
    if (state !== EAI_INPROGRESS) Question.#open.delete(this);
    return state;
  }

  /** The addresses, once; frees them. */
  take({ freeaddrinfo }: NonNullable<typeof symbols>): string[] {
    const first = read.ptr(ptr(this.#block), GAICB_RESULT) as Pointer;
    const addresses: string[] = [];
    for (let entry = first; entry !== 0; entry = read.ptr(entry, ADDRINFO_NEXT) as Pointer) {
      const text = addressOf(entry);
      if (text !== null) addresses.push(text);
    }
    freeaddrinfo(first);
    return addresses;
  }
}

/**
 * Asks the system's resolver without holding up anything of ours.
 *
 * @throws {Error} with a `code` as that of `dns.lookup`
 */
export async function lookupApart(host: string): Promise<readonly string[]> {
  if (symbols === null) throw new Error("getaddrinfo_a: not in this C library");
  if (isIP(host) !== 0) return [host];
  const question = new Question(host);
  let state = question.ask(symbols);
  if (state !== 0) throw failure(state, host);
  for (let waitMs = FIRST_LOOK_MS; ; waitMs = Math.min(2 * waitMs, LAST_LOOK_MS)) {
    state = question.look(symbols);
    if (state !== EAI_INPROGRESS) break;
    // a question that nobody waits for any more must not keep the process
    await new Promise<void>((resolve) => void setTimeout(resolve, waitMs).unref());
  }
  if (state !== 0) throw failure(state, host);
  return question.take(symbols);
}

function failure(state: number, host: string): Error {
  const code = ERROR_CODES[state] ?? `EAI ${state}`;
  return Object.assign(new Error(`getaddrinfo ${code} ${host}`), { code });
}

/** The text of one struct addrinfo's address; null for a family that is not ours. */
function addressOf(entry: Pointer): string | null {
  const family = read.i32(entry, ADDRINFO_FAMILY);
  if (family !== AF_INET && family !== AF_INET6) return null;
  const address = read.ptr(entry, ADDRINFO_ADDRESS) as Pointer;
  const byte = (i: number): number => read.u8(address, ADDRESS_OFFSET[family] + i);
  if (family === AF_INET) return Array.from({ length: 4 }, (_, i) => byte(i)).join(".");
  return Array.from({ length: 8 }, (_, i) => ((byte(2 * i) << 8) | byte(2 * i + 1)).toString(16)).join(":");
}
