// Oracle says what the real CNI libraries make of a configuration. It reads one JSON object per line:
//
//	{"list": BASE64}                      a conflist, alone: does libcni load it, and does ADD work with willing plugins?
//	{"single": BASE64}                    the same for a configuration of a single plugin
//	{"dir": PATH, "answers": {NAME: [VERSION…]}}
//	                                      a directory: what does containerd load, what CRI-O whose plugins answer so?
//	{"ipam": BASE64}                      a conflist: does host-local accept what it is given for each plugin?
//
// and answers each with one line. Which versions of the libraries it asks is the business of the module that builds it.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

type question struct {
	List    []byte              `json:"list"`
	Single  []byte              `json:"single"`
	Dir     string              `json:"dir"`
	Answers map[string][]string `json:"answers"`
	Ipam    []byte              `json:"ipam"`
}

// Set where the module has the plugins' library.
var judgeIpam func(scratch string, conflist []byte) error

func main() {
	if err := answerAll(); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

func answerAll() error {
	scratch, err := os.MkdirTemp("", "oracle-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	questions := bufio.NewScanner(os.Stdin)
	questions.Buffer(nil, 64<<20)
	answers := json.NewEncoder(os.Stdout)
	for questions.Scan() {
		var asked question
		if err := json.Unmarshal(questions.Bytes(), &asked); err != nil {
			return fmt.Errorf("a question is no JSON object: %w", err)
		}
		answer, err := answerOne(scratch, &asked)
		if err != nil {
			return err
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	return questions.Err()
}

func answerOne(scratch string, asked *question) (any, error) {
	switch {
	case asked.Dir != "":
		return judgeDirectory(asked.Dir, asked.Answers)
	case asked.List != nil:
		return judgeConflist(scratch, asked.List)
	case asked.Single != nil:
		return judgeSingle(scratch, asked.Single)
	case asked.Ipam != nil && judgeIpam != nil:
		return refusal(judgeIpam(scratch, asked.Ipam)), nil
	}
	return nil, fmt.Errorf("a question asks nothing that this oracle knows")
}

// An error as it is sent: its text in base64, because it may quote bytes that are not UTF-8; null for none.
type verdict struct {
	Error []byte `json:"error"`
}

func refusal(err error) verdict {
	if err == nil {
		return verdict{}
	}
	return verdict{Error: []byte(err.Error())}
}
