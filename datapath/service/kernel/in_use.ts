/** Which addresses connections of this node's endpoints go to or come from: the kernel walks conntrack. @module */
import { invalidArgument, IpAddress } from "@weir/common";
import { ASKED_MAX, InUseRequest } from "@weir/maps";
import { hex, mapped } from "./addresses.ts";
import type { Kernel } from "./kernel.ts";

/** Addresses of one question. */
export const ADDRESSES_MAX = 10_000;

/**
 * Those of these addresses that an endpoint has a connection with now, as they were written. It costs a walk through conntrack: 100,000 flows some 20 ms.
 * @throws {ProblemError} INVALID_ARGUMENT: too many, or one that is none
 */
export function addressesInUse(kernel: Kernel, addresses: readonly string[]): string[] {
  if (addresses.length > Math.min(ADDRESSES_MAX, ASKED_MAX)) {
    throw invalidArgument("Cannot say which addresses are in use", {
      found: `${addresses.length} addresses`,
      expected: `at most ${ADDRESSES_MAX}`,
    });
  }
  const asked = kernel.typed("weir_asked"), keys = new Map(addresses.map((text) => [text, keyOf(text)]));
  // Those that a process asked for which was killed meanwhile.
  for (const [address] of asked.entries()) asked.delete(address);
  if (keys.size === 0) return [];
  try {
    for (const address of keys.values()) asked.put(address, 0);
    kernel.program("weir_in_use").testRun({ ctx: new Uint8Array(InUseRequest.bytes) });
    const used = new Set(asked.entries().filter(([, is]) => is !== 0).map(([address]) => hex(address)));
    return [...keys].filter(([, address]) => used.has(hex(address))).map(([text]) => text);
  } finally {
    for (const address of keys.values()) asked.delete(address);
  }
}

function keyOf(text: string): ReturnType<typeof mapped> {
  const address = IpAddress.tryParse(text);
  if (address === undefined) {
    throw invalidArgument("Cannot say which addresses are in use", { found: text, expected: "IP addresses" });
  }
  return mapped(address.text);
}
