// Node's http server that writes one line to standard output for each call of its handler: client "method target".
'use strict';
const fs = require('fs');

const server = require('http').createServer((request, response) => {
  fs.writeSync(1, `${request.socket.remoteAddress} ${JSON.stringify(`${request.method} ${request.url}`)}\n`);
  request.resume();
  request.on('end', () => response.end('handled\n'));
});
server.listen(0, '127.0.0.1', () => fs.writeSync(2, `LISTEN ${server.address().port}\n`));
