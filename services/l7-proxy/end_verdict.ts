/** What one end's rules say of a request, as every protocol reports it. @module */

/** What one end's rules say: the client's (EGRESS), the server's (INGRESS). */
export interface EndVerdict {
  readonly side: "EGRESS" | "INGRESS";
  readonly allowed: boolean;
  /** Of the rule that allowed, or of those of which none did. */
  readonly cookie: number;
}
