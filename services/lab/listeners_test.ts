import assert from "node:assert/strict";
import { Listeners } from "./listeners.ts";

// Lines as /proc/net/tcp and tcp6 have them; port 1F90 is 8080, 1F91 is 8081, 1F92 is 8082.
const TCP = `  sl  local_address rem_address   st tx_queue rx_queue
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000
   1: 00000000:1F91 00000000:0000 0A 00000000:00000000
   2: 0200000A:1F92 0300000A:C350 01 00000000:00000000
`;
const TCP6 = `  sl  local_address remote_address st
   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A
`;

Deno.test("Listeners tells who listens for others from who listens for itself", () => {
  const found = new Listeners();
  found.add(TCP, "TCP", "0A");
  found.add(TCP6, "TCP", "0A");
  const missing = (port: number) => found.missing({ port, protocol: "TCP" });
  assert.equal(missing(8080), "8080/TCP is listened on at 127.0.0.1 or ::1 only");
  assert.equal(missing(8081), "");
  assert.equal(missing(8082), "nothing listens on 8082/TCP");
  assert.equal(found.missing({ port: 8081, protocol: "UDP" }), "nothing listens on 8081/UDP");
});
