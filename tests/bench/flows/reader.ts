/** Reads all flows of a server once and prints how many came in a second: counts messages, decodes none. @module */
import http2 from "node:http2";
import net from "node:net";
import { FRAME_HEADER_BYTES, framesOf } from "@weir/grpc";
import { GetFlowsRequest } from "@weir/proto/observer";

const session = http2.connect("http://localhost", { createConnection: () => net.connect(Deno.args[0]) });
const stream = session.request({
  ":method": "POST",
  ":path": "/observer.Observer/GetFlows",
  "content-type": "application/grpc",
  te: "trailers",
});
stream.end(framesOf([GetFlowsRequest.encode({ number: 1e9 })]));
let start = 0, count = 0, left = 0, header: number[] = [];
stream.on("data", (chunk: Uint8Array) => {
  start ||= performance.now();
  for (let at = 0; at < chunk.length;) {
    if (left > 0) {
      const step = Math.min(left, chunk.length - at);
      at += step;
      left -= step;
      continue;
    }
    header.push(chunk[at++]);
    if (header.length < FRAME_HEADER_BYTES) continue;
    left = new DataView(new Uint8Array(header).buffer).getUint32(1);
    header = [];
    count++;
  }
});
stream.on("close", () => {
  console.log(count / ((performance.now() - start) / 1000));
  Deno.exit(0);
});
