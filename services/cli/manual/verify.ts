/**
 * Help of `weir verify`.
 *
 * @module
 */
import type { Manual } from "./manual.ts";

/** Help of `weir verify`. */
export const VERIFY: Manual = {
  summary: "verify an eBPF object without loading it; needs no privileges",
  verbs: {
    "": {
      words: "OBJECT|DIR...",
      says: "Judges compiled eBPF object files; of a directory, every *.o in it.",
      flags: {
        "--program NAME": "only the program (or section) of this name",
        "--type TYPE":
          "type of programs whose section does not say it: tc, xdp, socket, cgroup/connect4, ...",
        "--attach FUNCTION":
          "what tracing programs attach to whose section names nothing that the kernel has (the loader chooses it when it runs); with --program, for one of them",
        "--kernel RELEASE": "also say what this kernel release lacks: 5.15, 6.1, 6.6, 6.12, ...",
        "--strict": "also refuse what is safe but should not be",
        "--btf FILE": "kernel types for CO-RE (default: the running kernel's, else the object's own)",
        "-v, --verbose": "visits, states and the dearest source lines of every program",
        "-o, --output table|json|yaml|sarif": "form of the answer",
        "--explain CODE": "the page about a code (WV0070), or the list of them all",
      },
    },
  },
  notes: `Refused with --strict:
  stack that is read before it was written (WV0064)
  a kernel address that is stored, returned, compared, cut or handed out (WV0041, 48, 49, 83)
  an access to packet, map value or memory that is not aligned (WV0078)
  more than half of the kernel's limit of visits (WV0218)
  with --kernel: something that this release lacks (WV0219)
`,
};
