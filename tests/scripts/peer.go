// A net/http server that writes one line to standard output per request ("handled": the client's address, method and
// target, before the body is read), and a client:
//
//	peer serve
//	peer handled
//	peer call URL COUNT
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
)

func main() {
	switch os.Args[1] {
	case "serve":
		serve(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, "ok\n")
			os.Stdout.WriteString(r.Method + " " + r.URL.Path + "\n")
		})
	case "handled":
		serve(func(w http.ResponseWriter, r *http.Request) {
			client, _, _ := net.SplitHostPort(r.RemoteAddr)
			os.Stdout.WriteString(fmt.Sprintf("%s %+q\n", client, r.Method+" "+r.RequestURI))
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, "handled\n")
		})
	}
	count, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	call(os.Args[2], count)
	fmt.Printf("DONE %d\n", count)
}

func serve(handler http.HandlerFunc) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintf(os.Stderr, "LISTEN %d\n", listener.Addr().(*net.TCPAddr).Port)
	// What it says about clients that it refuses would stand where the port is looked for.
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
	log.Fatal(server.Serve(listener))
}

// call makes count requests, eight at a time: gets, and posts whose body holds a request line.
func call(base string, count int) {
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 8
	next := make(chan int)
	var wait sync.WaitGroup
	for range 8 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for n := range next {
				var response *http.Response
				var err error
				if n%2 == 0 {
					response, err = http.Get(base + "/go/get")
				} else {
					body := "GET /inside-a-body HTTP/1.1\r\nHost: x\r\n\r\n"
					response, err = http.Post(base+"/go/post", "text/plain", strings.NewReader(body))
				}
				if err != nil {
					log.Fatal(err)
				}
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if response.StatusCode != 200 {
					log.Fatal(response.Status)
				}
			}
		}()
	}
	for n := range count {
		next <- n
	}
	close(next)
	wait.Wait()
}
