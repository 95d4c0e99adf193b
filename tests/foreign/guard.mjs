// npm install @grpc/grpc-js @grpc/proto-loader
// node guard.mjs LISTEN_HOST:PORT PHONE_IDENTITY_HOST:PORT
import http from "node:http";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const [listen, address] = process.argv.slice(2);
const definition = protoLoader.loadSync("phone_identity/v1/phone_identity.proto", { includeDirs: ["proto"] });
const { PhoneIdentity } = grpc.loadPackageDefinition(definition).phone_identity.v1;
const identity = new PhoneIdentity(address, grpc.credentials.createInsecure());

const server = http.createServer((request, response) => {
  const sessionToken = (request.headers.authorization ?? "").replace(/^Bearer /, "");
  identity.validateSession({ sessionToken }, { deadline: Date.now() + 2000 }, (error, valid) => {
    const reply = (status, text) => response.writeHead(status).end(text);
    if (!error) return reply(200, `orders of ${valid.user.phoneNumber}\n`);
    // Only UNAUTHENTICATED says something about the session. Every other failure is temporary: 503.
    if (error.code === grpc.status.UNAUTHENTICATED) return reply(401, "please sign in\n");
    return reply(503, "please try again\n");
  });
});
const [host, port] = listen.split(":");
server.listen(Number(port), host);
