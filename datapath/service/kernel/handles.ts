/** Handles: connections that the L7 proxy judges, as the programs have them. @module */
import {
  type Bytes,
  type Handle as HandleRecord,
  HANDLE_INDEX_BITS,
  REDIRECT_EGRESS,
  REDIRECT_INGRESS,
  SHARES_MAX,
} from "@weir/maps";
import { Handle } from "@weir/proto/l7";
import { unmapped } from "./addresses.ts";
import type { Kernel } from "./kernel.ts";

const TAKEN = 1, NUMBER_MAX = 0xff_ffff;

/** Who is the client, and who the server. */
export function handleEnds(record: HandleRecord) {
  const { key, clientHi } = record;
  const lo = { address: key.lo, port: key.portLoBe }, hi = { address: key.hi, port: key.portHiBe };
  return clientHi ? { client: hi, server: lo } : { client: lo, server: hi };
}

/** A record in words. */
function describe(record: HandleRecord): Handle {
  const { client, server } = handleEnds(record);
  const v4 = isV4(record.key.lo);
  return Handle.create({
    number: record.number,
    ipv6: !v4,
    protocol: record.key.protocol,
    clientAddress: unmapped(client.address),
    clientPort: client.port,
    serverAddress: unmapped(server.address),
    serverPort: server.port,
    egress: record.redirect & REDIRECT_EGRESS
      ? { endpoint: record.client.endpoint, remoteIdentity: record.server.identity }
      : undefined,
    ingress: record.redirect & REDIRECT_INGRESS
      ? { endpoint: record.server.endpoint, remoteIdentity: record.client.identity }
      : undefined,
    clientIdentity: record.client.identity,
    serverIdentity: record.server.identity,
    frontendAddress: record.frontendPortBe === 0 ? "" : unmapped(record.frontend),
    frontendPort: record.frontendPortBe,
  });
}

function isV4(address: Bytes): boolean {
  return address.subarray(0, 10).every((byte) => byte === 0) && address[10] === 0xff && address[11] === 0xff;
}

/** The table of handles. It is the kernel's, read at the moment of asking. */
export class Handles {
  readonly #kernel: Kernel;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  get entriesMax(): number {
    return this.#kernel.map("weir_handles").info.entriesMax;
  }
  /** Handles in use. */
  get held(): number {
    return this.heldBy(SHARES_MAX);
  }
  /** Of one share, see lib/share.h. */
  heldBy(share: number): number {
    const count = this.#kernel.typed("weir_handle_holdings").get(share) ?? 0;
    return Math.max(0, count | 0);
  }

  /** The one of this number; undefined when there is none, or another has taken its place. */
  get(text: string): Handle | undefined {
    return this.numbered(Number(text));
  }

  /** As {@link get}. */
  numbered(number: number): Handle | undefined {
    if (!Number.isInteger(number) || number < 1 || number > NUMBER_MAX) return undefined;
    const record = this.#kernel.typed("weir_handles").get(number & ((1 << HANDLE_INDEX_BITS) - 1));
    return record?.taken === TAKEN && record.number === number ? describe(record) : undefined;
  }

  /** All that are in use. */
  records(): HandleRecord[] {
    if (this.held === 0) return [];
    return this.#kernel.typed("weir_handles").entries().map(([, record]) => record)
      .filter(({ taken }) => taken === TAKEN);
  }
  list(): Handle[] {
    return this.records().map(describe);
  }
}
