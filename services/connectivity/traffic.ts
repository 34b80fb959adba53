/** What the program in a place is asked to send, and what it says came of it: lines of JSON. @module */

/** Protocols that scenarios send. */
export type Protocol = "TCP" | "UDP" | "ICMP";

/** One piece of traffic to try. */
export interface Probe {
  readonly id: number;
  readonly protocol: Protocol;
  readonly address: string;
  /** 0 for ICMP. */
  readonly port: number;
  readonly timeoutMs: number;
  /** TCP: the answer has so many bytes; ICMP: the packet has so many, IP header included, and may not be fragmented. */
  readonly bytes?: number;
}

/** What came of it. */
export interface ProbeResult {
  readonly id: number;
  /** answered: the other side took part. refused: it said no by itself. timeout: silence. unreachable: the network said no. */
  readonly outcome: "answered" | "refused" | "timeout" | "unreachable" | "error";
  readonly detail: string;
  /** Name of who answered; "" where that is not known. */
  readonly by: string;
  /** Address from which the other side saw the traffic come; "" where that is not known. */
  readonly seenFrom: string;
  /** The port likewise; 0 where that is not known. */
  readonly seenPort: number;
  /** Own port; 0 where it is not known. */
  readonly localPort: number;
  readonly elapsedMs: number;
}
