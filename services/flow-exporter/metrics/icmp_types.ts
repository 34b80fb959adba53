/** Names of ICMP messages as Hubble labels them: TYPE, or TYPE(CODE). Numbers: RFC 792, 4443, 4861, IANA. @module */

interface IcmpType {
  readonly text: string;
  /** By code; absent: the type has no codes. */
  readonly codes?: readonly string[];
}

const V4: Readonly<Record<number, IcmpType>> = {
  0: { text: "EchoReply" },
  3: {
    text: "DestinationUnreachable",
    codes: [
      ...["Net", "Host", "Protocol", "Port", "FragmentationNeeded", "SourceRoutingFailed"],
      ...["NetUnknown", "HostUnknown", "SourceIsolated", "NetAdminProhibited", "HostAdminProhibited"],
      ...["NetTOS", "HostTOS", "CommAdminProhibited", "HostPrecedence", "PrecedenceCutoff"],
    ],
  },
  4: { text: "SourceQuench" },
  5: { text: "Redirect", codes: ["Net", "Host", "TOS+Net", "TOS+Host"] },
  8: { text: "EchoRequest" },
  9: { text: "RouterAdvertisement" },
  10: { text: "RouterSolicitation" },
  11: { text: "TimeExceeded", codes: ["TTLExceeded", "FragmentReassemblyTimeExceeded"] },
  12: { text: "ParameterProblem", codes: ["PointerIndicatesError", "MissingOption", "BadLength"] },
  13: { text: "TimestampRequest" },
  14: { text: "TimestampReply" },
  15: { text: "InfoRequest" },
  16: { text: "InfoReply" },
  17: { text: "AddressMaskRequest" },
  18: { text: "AddressMaskReply" },
};

const V6: Readonly<Record<number, IcmpType>> = {
  1: {
    text: "DestinationUnreachable",
    codes: [
      ...["NoRouteToDst", "AdminProhibited", "BeyondScopeOfSrc", "AddressUnreachable", "PortUnreachable"],
      ...["SrcAddressFailedPolicy", "RejectRouteToDst"],
    ],
  },
  2: { text: "PacketTooBig" },
  3: { text: "TimeExceeded", codes: ["HopLimitExceeded", "FragmentReassemblyTimeExceeded"] },
  4: {
    text: "ParameterProblem",
    codes: ["ErroneousHeader", "UnrecognizedNextHeader", "UnrecognizedIPv6Option"],
  },
  128: { text: "EchoRequest" },
  129: { text: "EchoReply" },
  133: { text: "RouterSolicitation" },
  134: { text: "RouterAdvertisement" },
  135: { text: "NeighborSolicitation" },
  136: { text: "NeighborAdvertisement" },
  137: { text: "Redirect" },
};

/** Name of a message; numbers for one that has none. */
export function icmpText(kind: "ICMPv4" | "ICMPv6", type: number, code: number): string {
  const known = (kind === "ICMPv4" ? V4 : V6)[type];
  if (known === undefined) return `${type}(${code})`;
  if (known.codes === undefined && code === 0) return known.text;
  return `${known.text}(${known.codes?.[code] ?? `Code: ${code}`})`;
}
