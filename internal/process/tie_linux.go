package process

import (
	"os/exec"
	"syscall"
)

// tie puts the child into a process group of its own and has the kernel signal it when its parent
// ends. Go sets that after a change of user, which would clear it, and it survives the exec of a
// program that is not set-uid.
func tie(cmd *exec.Cmd, onParentDeath syscall.Signal) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = onParentDeath
}
