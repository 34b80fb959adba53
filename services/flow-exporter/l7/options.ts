/** Options of what is taken out of L7 flows, for the flow exporter, the agent and its manual: data alone. @module */
import type { ConfigSpec } from "@weir/common/config";

/** Names are Hubble's. */
export const REDACTION_CONFIG = {
  hubbleRedactEnabled: {
    kind: "flag",
    description: "take parts out of L7 flows, as the options after it say",
  },
  hubbleRedactHttpUrlquery: { kind: "flag", description: "with --hubble-redact-enabled: the query of URLs" },
  hubbleRedactHttpUserinfo: {
    kind: "flag",
    description: "with --hubble-redact-enabled: the password in URLs",
  },
  hubbleRedactHttpHeadersAllow: {
    kind: "text",
    default: "",
    description:
      "with --hubble-redact-enabled: headers whose values are shown, with commas between; all others are not",
  },
  hubbleRedactHttpHeadersDeny: {
    kind: "text",
    default: "",
    description: "with --hubble-redact-enabled: headers whose values are not shown, with commas between",
  },
} as const satisfies ConfigSpec;

/** What the agent passes on. */
export const REDACTION_OPTIONS = {
  hubbleRedactEnabled: "hubble-redact-enabled",
  hubbleRedactHttpUrlquery: "hubble-redact-http-urlquery",
  hubbleRedactHttpUserinfo: "hubble-redact-http-userinfo",
  hubbleRedactHttpHeadersAllow: "hubble-redact-http-headers-allow",
  hubbleRedactHttpHeadersDeny: "hubble-redact-http-headers-deny",
} as const;
